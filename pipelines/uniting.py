"""Which additions a recipe is trained with: the text of params.yaml, changed in two places.

Its comments and layout are people's, and stay: no YAML library writes the file anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ecgbeats.config import Params, read_params
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import write_text
from pipelines import added
from pipelines.placing import as_listed

_RECIPES, _DATASET, _UNIONS = "recipes", "dataset", "unions"


def change_additions(
    root: Path, recipe: str, *, with_: Sequence[str] = (), without: Sequence[str] = ()
) -> tuple[str, ...]:
    """Make params.yaml train `recipe` with more, or fewer, additions; return which it has then.

    Nothing is written where nothing changes.

    Raises
    ------
    ConfigError
        An addition is not there, of the other kind, or not one of the recipe's; or params.yaml
        says the dataset in a way that cannot be changed in place.
    """
    path = root / "params.yaml"
    params = read_params(path)
    base, now = params.parts_of(params.recipe(recipe).dataset)
    strangers = sorted(set(without) - set(now))
    if strangers:
        raise ConfigError(
            f"without: expected additions of {recipe} ({', '.join(now) or 'none'}), "
            f"got {', '.join(strangers)}"
        )
    for name in with_:
        _check_kind(root, params, recipe, name)
    wanted = tuple(dict.fromkeys([*(n for n in now if n not in without), *with_]))
    if wanted == now:
        return wanted
    text = path.read_text(encoding="utf-8")
    dataset, chain = chained(base, wanted)
    unions = {**{k: v.model_dump() for k, v in params.unions.items()}, **chain}
    datasets = {n: each.dataset for n, each in params.recipes.items()} | {recipe: dataset}
    text = with_unions(with_dataset(text, recipe, dataset), _used(unions, datasets.values()))
    _check_changed(params, text, recipe, wanted)
    write_text(path, text)
    return wanted


def chained(base: str, names: Sequence[str]) -> tuple[str, dict[str, dict[str, str]]]:
    """The dataset of `base` with all of `names`, and the unions that lead to it, one each.

    One addition a union: then each is made from just what it depends on, recipes share them, and
    another addition makes none of them anew.
    """
    unions, here = {}, base
    for name in names:
        union = f"{here}-with-{name}"
        unions[union] = {"base": here, "added": name}
        here = union
    return here, unions


def _check_changed(params: Params, text: str, recipe: str, wanted: tuple[str, ...]) -> None:
    """Make sure that `text` is params.yaml with other additions for `recipe`, for it alone.

    Names that hold "-with-" may make one union of two chains.
    """
    try:
        changed = Params.model_validate(yaml.safe_load(text))
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"params.yaml: not changed, it would not be valid: {error}") from error
    for name, each in params.recipes.items():
        ours = params.parts_of(each.dataset)
        if name == recipe:
            ours = (ours[0], wanted)
        then = changed.parts_of(changed.recipes[name].dataset)
        if then != ours:
            new, old = (" + ".join([base, *more]) for base, more in (then, ours))
            raise ConfigError(
                f"params.yaml: not changed, {name} would learn from {new} instead of {old}: two "
                "unions would have one name"
            )


def usable(root: Path, recipe: str, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Of the additions `names`, or of all, those that `recipe` can learn from as they lie here.

    Raises
    ------
    ConfigError
        There is no such recipe, or none of a name that was given.
    """
    params = read_params(root / "params.yaml")
    params.recipe(recipe)
    unknown = sorted(set(names or ()) - set(added.names(root)))
    if unknown:
        raise ConfigError(f"data: expected what was added, got {', '.join(unknown)}")
    found = []
    for name in added.names(root) if names is None else names:
        # Of the other kind, for one; or another process is at it just now.
        with suppress(ConfigError, DataError):
            _check_kind(root, params, recipe, name)
            found.append(name)
    return tuple(found)


def users_of(params: Params, name: str) -> list[str]:
    """Recipes that are trained with the addition `name`."""
    return [recipe for recipe in params.recipes if name in params.additions_of(recipe)]


def _check_kind(root: Path, params: Params, recipe: str, name: str) -> None:
    entry = added.get(root, name)
    wanted = "pictures" if params.scheme_of(recipe).of_folders else "recordings"
    if entry.kind != wanted:
        raise ConfigError(f"with: {recipe} learns from {wanted}, {name} holds {entry.kind}")
    check_listed(root, name)


def check_listed(root: Path, name: str) -> None:
    """Make sure that the addition lies here as its listing says.

    Raises
    ------
    ConfigError
        It is other, as an addition that was killed half-way may leave it, or not here.
    """
    entry = added.get(root, name)
    if not as_listed(root, name):
        raise ConfigError(
            f"with: expected {added.FOLDER}/{name} as it is listed, "
            f"version {entry.version.number}: `dvc pull {added.FOLDER}/{name}.dvc` "
            "brings it here, or add it again"
        )


def _used(unions: Mapping[str, Mapping[str, str]], datasets: Any) -> dict[str, Mapping[str, str]]:
    """Those unions that a recipe goes back to."""
    used: dict[str, Mapping[str, str]] = {}
    for name in datasets:
        while name in unions:
            used[name] = unions[name]
            name = unions[name]["base"]
    return {name: unions[name] for name in unions if name in used}


def with_dataset(text: str, recipe: str, dataset: str) -> str:
    """`text` of params.yaml with another dataset for `recipe`."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in (_RECIPES, recipe, _DATASET):
        node = _value(node, key)
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(
            f"params.yaml: expected recipes.{recipe}.dataset to be written there by name, so that "
            "it can be changed"
        )
    return text[: node.start_mark.index] + dataset + text[node.end_mark.index :]


def with_unions(text: str, unions: Mapping[str, Mapping[str, str]]) -> str:
    """`text` of params.yaml with these unions alone."""
    rows = [f"  {k}: {{base: {v['base']}, added: {v['added']}}},\n" for k, v in unions.items()]
    written = "{\n" + "".join(rows) + "}" if rows else "{}"
    node = _value(yaml.compose(text, Loader=yaml.SafeLoader), _UNIONS)
    if node is None:
        return f"{text.rstrip()}\n\n{_UNIONS}: {written}\n"
    return text[: node.start_mark.index] + written + text[_end(node) :]


def _value(node: Any, key: str) -> Any:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _end(node: Any) -> int:
    """Where a value ends; of a block, without the comments that follow."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return max(_end(value) for _, value in node.value)
    return int(node.end_mark.index)
