"""`reelsense score --ray`: what it refuses before there is a cluster, and how to install it."""

import importlib.util
import socket
import sys

import pytest


@pytest.fixture
def folder(here):
    (here / "in").mkdir()
    (here / "in" / "a.csv").write_text("review\nfine\n")
    return here


def test_what_is_wrong_with_the_input_comes_before_any_cluster(reelsense, folder, refused):
    refused(reelsense("score", "none", "out", "--ray"), 2, "none: there is no such file or folder")
    (folder / "out").write_text("")
    refused(reelsense("score", "in", "out", "--ray"), 2, "out: is a file, and in is a folder")


def test_a_pipe_is_refused(reelsense, folder, refused):
    for places in (["-", "out.csv", "--format", "csv"], ["in/a.csv", "-"]):
        refused(reelsense("score", *places, "--ray"), 2, "--ray: other machines cannot reach")


@pytest.mark.parametrize("arguments", [["in", "out"], ["in", "out", "--resume"]])
def test_an_option_before_the_folder_takes_it_for_an_address(reelsense, folder, refused, arguments):
    outcome = reelsense("score", "--ray", *arguments)
    refused(outcome, 2, "--ray in: not the address of a cluster; give HOST:PORT.* --ray last")


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_cluster_that_does_not_answer(reelsense, folder, refused, monkeypatch, how):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address if how == "environment" else "127.0.0.1:2")
    outcome = reelsense("score", "in", "out", "--ray", *([address] if how == "option" else []))
    refused(outcome, 1, f"--ray {address}: no cluster answers there")
    assert not list(folder.glob("out*"))


def test_it_says_what_is_missing(reelsense, folder, refused, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    for place in ("in", "in/a.csv"):
        outcome = reelsense("score", place, f"{place}.out.csv", "--ray")
        refused(outcome, 1, r'needs the package ray; run: pip install "reelsense\[scale\]"')
    assert not list(folder.glob("in*.out*"))
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "ray" else find(n))
    printed = reelsense("doctor").out
    assert "ray  for score --ray\n" in printed
    assert 'pip install "reelsense[scale]"' in printed
