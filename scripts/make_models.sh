#!/bin/sh
# Makes the models of the package anew: sh scripts/make_models.sh UNLABELLED FOLDER
#
# UNLABELLED is aclImdb_v1.tar.gz, the aclImdb folder, or a file of its unlabelled reviews. Runs and
# bundles go to FOLDER. Each model is made twice: once with films held out, for its figures, and
# once, with the same recipe, from all 25,000 labelled reviews, which is the one that ships. The
# first teacher has learned labels alone; those that ship have the held-out `accurate` for teacher.
# Interrupted, it goes on where it stopped when called again.
#
# Minutes on two cores of an EPYC with AVX512-BF16, nothing else running: language 74 (two passes),
# language-small 24, language-again 36, teacher 16, accurate 35 held out and about 55 in all, small
# 12 and 16, and 12 for each student while its teacher reads: five hours and a quarter.
set -eu
unlabelled=$1 folder=$2
held_out="--validation 0.15 --test 0.2 --split-seed 7"
all="--validation 0 --test 0"

make_run() { # VERB RUN ARGUMENTS: starts the run, or goes on with it
    verb=$1 run=$folder/$2
    shift 2
    if [ -e "$run/recipe.toml" ]; then set -- "$@" --resume; fi
    echo "== reelsense $verb --run $run"
    reelsense "$verb" "$@" --run "$run"
}

# No label touches these, so one of each does for both; they leave the held-out reviews out.
make_run pretrain language --unlabelled "$unlabelled" $held_out
make_run pretrain language-small --unlabelled "$unlabelled" $held_out \
    --hidden 110 --dimensions 94 --epochs 3
# A third pass is for the package alone: to the teacher it gave 93.6% after 93.5%, less than chance.
make_run pretrain language-again --from "$folder/language" --unlabelled "$unlabelled" $held_out \
    --epochs 1 --learning-rate 1.5e-3 --cooling 0.7 --seed 1

make_run train teacher --recipe teacher --from "$folder/language" $held_out
make_student() { # RECIPE PART TEACHER LANGUAGE_MODEL SPLIT
    recipe=$1 part=$2 teacher=$3 language=$4
    shift 4
    make_run distil "$recipe-$part" "$folder/$teacher" --recipe "$recipe" \
        --from "$folder/$language" --unlabelled "$unlabelled" "$@"
}
make_student accurate held-out teacher language $held_out
make_student small held-out accurate-held-out language-small $held_out
make_student small all accurate-held-out language-small $all
make_student accurate all accurate-held-out language $all

for model in accurate small; do
    reelsense export "$folder/$model-all" "$folder/$model" --held-out "$folder/$model-held-out" \
        --overwrite
done
