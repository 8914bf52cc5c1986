#!/bin/sh
# Makes the runs behind docs/architectures.md: sh scripts/compare_architectures.sh FOLDER
#
# Two comparisons, of kinds of network and of kinds of augmentation, each with three seeds on one
# split by film, the augmentations also with a hundredth and a tenth of the labels. What is no
# recipe of the package is `default` with a line changed. Interrupted, it goes on where it stopped
# when called again; `python benchmarks/architectures.py FOLDER` makes the page's tables of it.
set -eu
folder=$1
recipes=$(dirname "$0")/../src/reelsense/model/recipes
mkdir -p "$folder/recipes"

variant() { # NAME ABOUT KEY VALUE: writes a recipe that is `default` but for one value
    sed "/^#/d; /^$3 =/d; s/^name = .*/name = \"$1\"/; s/^about = .*/about = \"$2\"/" \
        "$recipes/default.toml" >"$folder/recipes/$1.toml"
    echo "$3 = $4" >>"$folder/recipes/$1.toml"
    echo "$folder/recipes/$1.toml"
}

compare() { # NAME ARGUMENTS: starts a comparison, or goes on with it
    name=$1
    shift
    if [ -e "$folder/$name/comparison.json" ]; then set -- "$@" --resume; fi
    reelsense compare "$@" --folder "$folder/$name"
}

last=$(variant last "the LSTM of default, its last state alone" pooling '"last"')
means=$(variant mean-of-states "the LSTM of default, the mean of its states" pooling '"mean"')
max=$(variant max "the LSTM of default, the maximum of its states" pooling '"max"')
compare architectures default "$last" "$means" "$max" attention bigru stacked stacked-3 \
    cnn-lstm cnn dpcnn mean

augmented() { variant "$1" "$2" augment "\"$1\""; }
words=$(variant word-dropout "a tenth of the words dropped" word_dropout 0.1)
whole=$(variant uncropped "whole reviews, no random stretch" crop_tokens 0)
synonym=$(augmented synonym "a tenth of the words of half of the reviews by synonyms of WordNet")
neighbour=$(augmented neighbour "the same, by their neighbours among the word vectors")
insert=$(augmented insert "neighbours of a tenth of the words put anywhere")
swap=$(augmented swap "a tenth of the words change places")
delete=$(augmented delete "a tenth of the words taken out")
eda=$(augmented eda "one of neighbour, insert, swap, delete for each review (Wei and Zou 2019)")
shuffle=$(augmented shuffle "sentences change places")
compare augmentation default "$words" "$whole" "$synonym" "$neighbour" "$insert" "$swap" \
    "$delete" "$eda" "$shuffle" --fractions 0.01,0.1,1
