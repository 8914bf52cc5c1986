"""Put the run of a pre-training into the package: python scripts/pack_language_model.py RUN

Of a run that `train --from` and `pretrain --from` can read it keeps what they read, with weights of
16 bits (half the bytes; starting weights that differ by a rounding train as well), and leaves out
which folders of this machine the texts lay in.
"""

import argparse
import json
import shutil
from pathlib import Path

from reelsense.atomic import write_atomically
from reelsense.bundle.folder import NAMES, PACKAGE
from reelsense.training.checkpoint import save_tensors, weights_hash
from reelsense.training.start import read_pretrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run of `reelsense pretrain`")
    run = parser.parse_args().run
    before = read_pretrained(run, run.name)
    folder = PACKAGE / NAMES["pretrained"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("recipe.toml", "tokenizer.json", "read.npy"):
        shutil.copyfile(run / name, folder / name)
    data = json.loads((run / "data.json").read_text("utf-8"))
    data["source"]["unlabelled"] = [Path(path).name for path in data["source"]["unlabelled"]]
    write_atomically(folder / "data.json", (json.dumps(data, indent=2) + "\n").encode())
    halves = {name: weight.half() for name, weight in before.weights.items()}
    save_tensors(folder / "weights.safetensors", halves, {"sha256": weights_hash(halves)})


if __name__ == "__main__":
    main()
