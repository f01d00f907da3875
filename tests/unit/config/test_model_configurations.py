"""The network's settings: every one that can be is taken, every other is refused with the reason."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.unit.config.model_settings import KINDS, MODELS
from udt_cluster.config.job import Job, ModelConfig
from udt_cluster.config.load import check_job

ACDC = "name: h\ndata:\n  source: /d\n  adapter: acdc\n  group_by: patient\n"
OF_TOKENS = {"dat", "dra_channel", "dra_spatial"}
DEFAULTS = {
    "scales": [1, 2, 3, 4],
    "attention": ["cfa", "ssa"],
    "num_heads": 4,
    "num_layers": 4,
    "embed_dim": 128,
    "mlp_ratio": 2,
    "head_merge": "standard",
}

REFUSED = [
    pytest.param(
        "skips: [dat, dra_channel, dra_spatial, none], scales: [1, 3]",
        [
            (
                "6: model.skips: dra_channel of level 2 reads the tokens of scale 2, which is not one of "
                "scales=[1, 3]; write identity or none there, or add 2 to scales"
            )
        ],
        id="scale_left_out",
    ),
    pytest.param(
        "skips: [zero, none, none, none]",
        ["6: model.skips: zero is a control for unet and r34_unet; write none, which udtransnet has, too"],
        id="zero_of_udtransnet",
    ),
    pytest.param(
        "architecture: unet, skips: [dat, identity, identity, identity]",
        ["6: model.skips: unet has no transformer; allowed kinds: identity, none, zero"],
        id="dat_of_unet",
    ),
    pytest.param(
        "architecture: r34_unet, skips: [zero, none, identity, dra_spatial]",
        ["6: model.skips: r34_unet has no transformer; allowed kinds: identity, none, zero"],
        id="dra_of_r34_unet",
    ),
    pytest.param(
        "attention: []",
        [
            (
                "6: model.attention: a transformer needs cfa or ssa: nothing else exchanges information between "
                "tokens; for no transformer at all set skips, of identity and none; got []"
            )
        ],
        id="no_attention",
    ),
    pytest.param(
        "attention: [cfa, cfa]",
        ["6: model.attention: the same attention twice; for more of both set num_layers; got [cfa, cfa]"],
        id="attention_twice",
    ),
    pytest.param("attention: cfa", ["6: model.attention: must be a list, got 'cfa': write [cfa]"], id="one_attention"),
    pytest.param(
        "attention: [cfa, spatial]",
        ["6: model.attention[1]: must be one of cfa, ssa, got 'spatial'; did you mean ssa?"],
        id="attention_by_another_name",
    ),
    pytest.param("scales: []", ["6: model.scales: must have at least 1 entry, got 0"], id="no_scale"),
    pytest.param("scales: [1, 1]", ["6: model.scales: the same scale twice; got [1, 1]"], id="scale_twice"),
    pytest.param(
        "scales: [0, 1]", ["6: model.scales[0]: must be one of 1, 2, 3, 4, got 0"], id="scales_are_counted_from_1"
    ),
    pytest.param("scales: 2", ["6: model.scales: must be a list, got 2: write [2]"], id="one_scale"),
    pytest.param("mlp_ratio: 0", ["6: model.mlp_ratio: must be at least 1, got 0"], id="no_mlp"),
    pytest.param(
        "num_heads: 6",
        [("6: model.num_heads: num_heads=6 does not divide embed_dim=128; allowed heads: [1, 2, 4, 8, 16, 32, 64]")],
        id="heads",
    ),
    pytest.param(
        "architecture: unet, scales: [1, 2]",
        ["6: model.scales: unet has no transformer to take [1, 2]; remove it, or write [1, 2, 3, 4]"],
        id="scales_of_unet",
    ),
    pytest.param(
        "architecture: r34_unet, attention: [ssa]",
        ["6: model.attention: r34_unet has no transformer to take [ssa]; remove it, or write [cfa, ssa]"],
        id="attention_of_r34_unet",
    ),
    pytest.param(
        "architecture: unet, mlp_ratio: 4",
        ["6: model.mlp_ratio: unet has no transformer to take 4; remove it, or write 2"],
        id="mlp_of_unet",
    ),
    pytest.param(
        "skips: [remove, remove, remove, remove]",
        [
            f"6: model.skips[{level}]: must be one of {', '.join(KINDS)}, got 'remove'; did you mean none?"
            for level in range(4)
        ],
        id="remove",
    ),
]


@pytest.mark.parametrize(("model", "says"), REFUSED)
def test_what_cannot_be_is_refused_with_the_reason(
    model: str, says: list[str], told: Callable[[str], list[str]]
) -> None:
    assert told(f"{ACDC}model: {{{model}}}\n") == says


def test_skips_by_default_read_the_scales_that_there_are() -> None:
    assert ModelConfig().skip_kinds == ("dra_channel",) * 4
    assert ModelConfig(scales=(2, 4)).skip_kinds == ("none", "dra_channel", "none", "dra_channel")
    assert ModelConfig(architecture="unet").skip_kinds == ("identity",) * 4


@pytest.mark.parametrize(
    ("model", "summary"),
    [
        (
            ModelConfig(),
            "udtransnet, skips dra_channel, dra_channel, dra_channel, dra_channel; "
            "cfa then ssa of scales [1, 2, 3, 4], 4 heads, 4 layers, width 128",
        ),
        (
            ModelConfig(scales=(2,), attention=("ssa",), skips=("none", "dat", "identity", "none"), num_heads=2),
            "udtransnet, skips none, dat, identity, none; ssa of scales [2], 2 heads, 4 layers, width 128",
        ),
        (ModelConfig(skips=("none",) * 4), "udtransnet, skips none, none, none, none"),
        (ModelConfig(architecture="unet"), "unet, skips identity, identity, identity, identity"),
    ],
)
def test_a_network_is_said_in_one_line(model: ModelConfig, summary: str) -> None:
    assert model.summary == summary
    assert model.has_transformer is (";" in summary)


def test_scales_are_a_set_and_attentions_an_order() -> None:
    assert ModelConfig(scales=(4, 1, 2)) == ModelConfig(scales=(1, 2, 4))
    assert ModelConfig(attention=("ssa", "cfa")) != ModelConfig(attention=("cfa", "ssa"))


def test_a_level_without_tokens_may_leave_its_scale_out_or_in() -> None:
    skips = ("none", "identity", "dat", "dra_channel")
    for scales in ((3, 4), (1, 3, 4), (1, 2, 3, 4)):
        assert ModelConfig(skips=skips, scales=scales).skip_kinds == skips


def test_a_model_written_before_these_settings_is_the_published_network() -> None:
    before = {
        "architecture": "udtransnet",
        "num_heads": 4,
        "num_layers": 4,
        "embed_dim": 128,
        "skips": None,
        "head_merge": "standard",
        "dropout": 0.1,
        "pretrained": "none",
    }
    assert ModelConfig.model_validate(before) == ModelConfig()


@pytest.mark.parametrize("architecture", ["unet", "r34_unet", "udtransnet"])
def test_which_kinds_each_architecture_takes(architecture: str) -> None:
    """All subsets of levels for the baselines, each removed or zeroed; all kinds of tokens at all levels."""
    taken = set()
    for skips in itertools.product(KINDS, repeat=4):
        try:
            taken.add(ModelConfig(architecture=architecture, skips=skips).skip_kinds)  # type: ignore[arg-type]
        except ValueError:
            continue
    allowed = [kind for kind in KINDS if kind != "zero"] if architecture == "udtransnet" else KINDS[:3]
    assert taken == set(itertools.product(allowed, repeat=4))


def _can_be(model: dict[str, Any]) -> bool:
    """The rules once more, from the page of the networks and not from the code."""
    given = {"architecture": "udtransnet", "skips": ["none"] * 4, "pretrained": "none"} | DEFAULTS | model
    reads = {level for level, kind in enumerate(given["skips"], start=1) if kind in OF_TOKENS}
    is_plain = all(
        sorted(given["scales"]) == value if name == "scales" else given[name] == value
        for name, value in DEFAULTS.items()
    )
    fits = {
        "udtransnet": "zero" not in given["skips"] and reads <= set(given["scales"]),
        "unet": is_plain and not reads and given["pretrained"] == "none",
        "r34_unet": is_plain and not reads,
    }
    lists = (given["scales"], given["attention"])
    return (
        fits[given["architecture"]]
        and all(0 < len(entries) == len(set(entries)) for entries in lists)
        and given["embed_dim"] % given["num_heads"] == 0
        and 0 not in (given["num_layers"], given["mlp_ratio"])
    )


@settings(max_examples=150, deadline=None)
@given(model=MODELS)
def test_any_settings_are_taken_or_refused_in_a_sentence(
    model: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "any.yaml"
    path.write_text(f"{ACDC}model: {json.dumps(model)}\n")
    found = check_job(path)
    assert isinstance(found, Job) is _can_be(model)
    for problem in () if isinstance(found, Job) else found:
        assert problem.field.startswith("model.")
        assert len(problem.message) > 20
        assert not re.search(r"Input should|Value error|pydantic|validat", problem.message)
