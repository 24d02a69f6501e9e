from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceprint.assignments import override, parse_yaml
from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.recipe import dump, list_recipes, load_config, validate

BASE = {"data": {"source": "synthetic"}, "steps": 10}


def config(*assignments: str) -> Config:
    return validate(override(dict(BASE), assignments))


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("5E+2", 500.0), ("1.5e3", 1500.0), ("-2e-1", -0.2)])
def test_exponents_are_numbers(text: str, value: float) -> None:
    assert parse_yaml(text, name="x") == value
    assert parse_yaml(f"a: [{text}]", name="x") == {"a": [value]}


@pytest.mark.parametrize("text", ["1e", "e4", "1e-4x", "0x1e4z"])
def test_what_only_looks_like_an_exponent_is_text(text: str) -> None:
    assert parse_yaml(text, name="x") == text


def test_overrides_reach_nested_keys() -> None:
    made = config("optimizer.lr=1e-4", "schedule.milestones=[1, 2.5]", "network.options.scale=1", "seed=3")
    assert made.optimizer.lr == 1e-4
    assert made.schedule.milestones == [1.0, 2.5]
    assert made.network.options == {"scale": 1}
    assert made.seed == 3


def test_overrides_reach_list_entries() -> None:
    values = override({"a": [{"b": 1}, {"b": 2}]}, ["a.1.b=7"])
    assert values == {"a": [{"b": 1}, {"b": 7}]}
    with pytest.raises(UserError, match=r"'5' is not an index 0\.\.1"):
        override({"a": [1, 2]}, ["a.5=7"])


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        (
            "optimzer.lr=1",
            ["unknown key 'optimzer'", "nearest: 'optimizer'", "`faceprint zoo quickstart` shows"],
        ),
        ("optimizer.lrr=1", ["unknown key 'optimizer.lrr'", "nearest: 'optimizer.lr'", "optimizer.momentum"]),
        ("precision=bf17", ["precision", "'bf17'", "nearest: 'bf16'", "fp32"]),
        ("log.loggers=[tensorbord]", ["log.loggers.0", "nearest: 'tensorboard'"]),
        ("data.source=foldr", ["data.source", "nearest: 'folder'", "list", "synthetic"]),
        ("data.pth=x", ["unknown key 'data.pth'", "data.identities"]),
        ("optimizer.lr=-1", ["optimizer.lr", "greater than 0", "got -1"]),
        ("batch_size=abc", ["batch_size", "integer", "'abc'"]),
        ("optimizer.lr=.nan", ["optimizer.lr", "finite"]),
        ("epochs=3", ["exactly one of epochs and steps", "epochs=3", "steps=10"]),
        ("distributed={strategy: fsdp, compress: bf16}", ["distributed.compress is for distributed.strategy=ddp"]),
        ("distributed={strategy: fsdp, bucket_mb: 50}", ["distributed.bucket_mb is for distributed.strategy=ddp"]),
        ("steps", ["'steps'", "key=value"]),
        ("seed.x=1", ["seed", "got {'x': 1}"]),
        ("schedule.milestones=[1", ["schedule.milestones", "not valid YAML"]),
        ("published.gpu=8", ["unknown key 'published.gpu'", "nearest: 'published.gpus'"]),
        (
            "published={scores: [{protocl: LFW}]}",
            ["unknown key 'published.scores.0.protocl'", "published.scores.0.std"],
        ),
    ],
)
def test_mistakes_are_named(assignment: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        config(assignment)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_the_resolved_configuration_reads_back(tmp_path: Path) -> None:
    made = config("optimizer.lr=1e-4", "data.difficulty=0.25", f"out={tmp_path}/run")
    path = tmp_path / "config.yaml"
    path.write_text(dump(made))
    assert load_config(str(path)) == made


def test_every_bundled_recipe_resolves() -> None:
    names = list_recipes()
    assert {"quickstart", "lfw_10min", "lfw_20min"} <= set(names)
    for name in names:
        made = load_config(name)
        assert made.recipe == name
        assert made.description


def write(folder: Path, **texts: str) -> str:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder / f"{next(iter(texts))}.yaml")


def test_a_base_is_joined_section_by_section(tmp_path: Path) -> None:
    made = load_config(
        write(
            tmp_path,
            top="base: middle.yaml\noptimizer: {lr: 0.3}\nschedule: {milestones: [4]}",
            middle="base: bottom.yaml\nschedule: {milestones: [1, 2], factor: 0.5}\nseed: 5",
            bottom="{data: {source: synthetic}, steps: 10, seed: 1, optimizer: {lr: 0.2, momentum: 0.8}}",
        )
    )
    assert (made.recipe, made.seed, made.steps) == ("top", 5, 10)
    assert (made.optimizer.lr, made.optimizer.momentum) == (0.3, 0.8)
    assert (made.schedule.milestones, made.schedule.factor) == ([4.0], 0.5)
    assert "base" not in dump(made)


def test_a_bundled_recipe_is_a_base_too_and_what_it_said_of_another_choice_is_dropped(tmp_path: Path) -> None:
    text = "base: quickstart\nepochs: 3\nnetwork: {name: r18}\ndata: {source: folder, path: x}"
    made = load_config(write(tmp_path, mine=text))
    assert (made.steps, made.epochs, made.network.name, made.network.options) == (None, 3, "r18", {})
    assert made.network.embedding_dim == load_config("quickstart").network.embedding_dim
    assert made.margin == load_config("quickstart").margin
    assert made.data.model_dump()["path"] == Path("x")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"a": "base: a.yaml"}, "a circle"),
        ({"a": "base: b.yaml", "b": "base: ./a.yaml"}, "a circle"),
        ({"a": "base: absent.yaml"}, "cannot be read"),
        ({"a": "base: quikstart"}, "unknown base in .*nearest: 'quickstart'"),
        ({"a": "base: [quickstart]"}, "base is a recipe's name or a YAML file"),
        ({"a": "base: b.yaml", "b": "[1]"}, "b.yaml: a recipe is a mapping"),
    ],
)
def test_mistakes_in_bases_are_named(tmp_path: Path, texts: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config(write(tmp_path, **texts))


def test_steps_and_epochs_replace_each_other() -> None:
    assert load_config("quickstart", ["steps=7"]).steps == 7
    assert load_config("quickstart", ["steps=7"]).epochs is None
    assert load_config("quickstart", ["epochs=2"]).steps is None


def test_choosing_another_source_drops_what_was_said_of_the_old_one(tmp_path: Path) -> None:
    made = load_config("quickstart", ["data.source=folder", f"data.path={tmp_path}"])
    assert made.data.model_dump()["path"] == tmp_path


def test_unknown_recipe_lists_the_bundled_ones() -> None:
    with pytest.raises(UserError, match=r"unknown recipe.*'quikstart' \(nearest: 'quickstart'"):
        load_config("quikstart")
    with pytest.raises(UserError, match="cannot be read"):
        load_config("absent.yaml")


def test_hostile_yaml_is_refused(tmp_path: Path) -> None:
    for text in (
        "a: !!python/object/apply:os.system ['true']",
        "a: &a [1]\nb: [*a, *a]",
        "a: 1\na: 2",
        "[" * 5000,
        "x" * 2_000_000,
        "\x00",
    ):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        with pytest.raises(UserError, match=r"recipe\.yaml"):
            load_config(str(path))


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_clear_error(text: str) -> None:
    try:
        values = parse_yaml(text, name="x")
        validate(values if isinstance(values, dict) else {})
    except UserError:
        pass
