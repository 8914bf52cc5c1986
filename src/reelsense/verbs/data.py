"""data, download, recipes: what a run is made of."""

import json
from pathlib import Path
from typing import Any

import click

from reelsense.model.recipe import read_recipe, shipped_recipes
from reelsense.verbs.options import data_options, need_folder, read, source_of


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/data"), metavar="FOLDER",
              show_default=True, help="Where data.json and data.png go.")  # fmt: skip
@click.option("--split-seed", type=click.IntRange(0, 2**31), default=0, metavar="N",
              help="Seed of the split.")  # fmt: skip
@data_options
def data(
    out: Path,
    split_seed: int,
    data: str | None,
    text_column: str | None,
    label_column: str | None,
    labels: str | None,
) -> None:
    """Show the reviews: counts, lengths, leaks, telling words."""
    need_folder(out)
    reviews = read(source_of(data, text_column, label_column, labels))

    from reelsense.atomic import write_atomically
    from reelsense.evaluation.data_plots import draw_data
    from reelsense.text.describe import describe
    from reelsense.text.splits import split

    described = describe(reviews, split(reviews, seed=split_seed))
    write_atomically(out / "data.json", json.dumps(described, indent=2) + "\n")
    picture = draw_data(described, out / "data.png")
    _print_data(described)
    click.echo(f"Picture   {picture}")


@click.command()
@click.argument("name", type=click.Choice(["imdb", "glove"]))
@click.option("--to", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the file goes; the user's cache folder by default.")  # fmt: skip
@click.option("--from", "from_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Take and check a file that you have already, without network.")  # fmt: skip
def download(name: str, folder: Path | None, from_file: Path | None) -> None:
    """Fetch the official IMDB reviews or GloVe vectors, checked.

    The reviews have 84 MB, the vectors 862 MB. A download that broke off goes on where it stopped.
    """
    if folder:
        need_folder(folder)

    from reelsense.download import download as fetch

    path = fetch(name, folder=folder, from_file=from_file)
    use = {"imdb": f"reelsense train --data {path}",
           "glove": "reelsense train --embedding glove.6B.100d"}[name]  # fmt: skip
    click.echo(f"{path}\nUse it with: {use}")


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print one as TOML."""
    if name:
        click.echo(read_recipe(name).to_toml(), nl=False)
        return
    listed = shipped_recipes()
    width = max(map(len, listed))
    for shipped, recipe in listed.items():
        click.echo(f"{shipped:<{width}}  {recipe.about}")


def _print_data(described: dict[str, Any]) -> None:
    """Print the counts, leaks and words of a set of reviews."""
    empty = described["empty"]
    left_out = f"; rows without text left out: {empty:,}" if empty else ""
    click.echo(
        f"Source    {described['source']}\n"
        f"Reviews   {described['n']:,}{left_out}\n"
        f"Split     {described['method']}\n\n"
        "            reviews  positive  negative   films"
    )
    for name, part in described["parts"].items():
        films = f"{part['films']:,}" if part["films"] else "-"
        click.echo(
            f"{name:<10}  {part['n']:>7,}  {part['positive']:>8,}  {part['negative']:>8,}  "
            f"{films:>6}"
        )
    lengths = described["lengths"]
    click.echo(
        f"\nLength    {lengths['mean']:,.0f} words in the mean, half under "
        f"{lengths['median']:,.0f}, 95% under {lengths['p95']:,.0f}, longest {lengths['max']:,}\n"
        f"Leaks     {_leaks_in_words(described['leaks'])}\n"
    )
    for title, key in (("Frequent words", "frequent"), ("Telling words", "words"),
                       ("Telling phrases", "ngrams")):  # fmt: skip
        click.echo(title)
        for label, rows in described[key].items():
            words = ", ".join(str(row[0]) for row in rows[:10]) or "none stands out"
            click.echo(f"{label:<8}  {words}")
    click.echo()


def _leaks_in_words(leaks: dict[str, Any]) -> str:
    """Say what the parts of a split have in common; see `text.splits.leaks`."""
    texts = sum(count for key, count in leaks["duplicate_texts"].items() if "within" not in key)
    films, unknown = sum(leaks["shared_films"].values()), leaks["rows_without_film"]
    return (
        f"{texts or 'no'} texts and {films or 'no'} known films in two parts"
        f"; copies left out: {leaks['dropped']:,}"
        + (f"; film not known: {unknown:,}" if unknown else "")
    )
