"""Each promise has a test that exists, and the open ones are named."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.requirements import REQUIREMENTS

TESTS = Path(__file__).resolve().parent
# What later work fills; a row leaves this list in the commit that proves it.
OPEN: set[str] = set()


def names(file: str) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_promise_is_proved_by_a_test_that_exists():
    missing = [
        (row.number, proof)
        for row in REQUIREMENTS
        for proof in row.proofs
        if proof.split("::")[1] not in names(proof.split("::")[0])
    ]
    assert not missing


def test_the_open_promises_are_the_ones_that_are_said_to_be():
    assert {row.number for row in REQUIREMENTS if not row.proofs} == OPEN


def test_numbers_are_unique_and_in_order():
    numbers = [row.number for row in REQUIREMENTS]
    assert numbers == sorted(set(numbers))
