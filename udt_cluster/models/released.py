"""Weights of the authors' released code, in and out: repository McGregorWwww/UDTransNet, commit 4657587.

One list of rules says which part of which of our parameters is which released parameter. Ours are fused where theirs
are apart: the four scales' maps are one stacked tensor, and maps of one input (key and value) lie side by side.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from udt_cluster.errors import RefusedError
from udt_cluster.models.dat import BOTH
from udt_cluster.models.layers import LEVELS
from udt_cluster.models.udtransnet import UDTransNet
from udt_cluster.models.unet import R34UNet, UNet

# LayerNorms of the released transformer that its forward pass never uses; ours does not have them.
NEVER_USED = re.compile(r"mtc\.encoder\.layer\.\d+\.(channel_attn\.)?attn_norm\.(weight|bias)")

ReleasedModel = UDTransNet | UNet | R34UNet


@dataclass(frozen=True)
class Part:
    """Part `index` of `count` of a tensor, along its first axis.

    `stacked` parts are one step of that axis each, which the released tensor does not have; others are equal chunks.
    """

    index: int = 0
    count: int = 1
    stacked: bool = False

    def of(self, tensor: Tensor) -> Tensor:
        """This part of our tensor, as a copy."""
        if self.stacked:
            return tensor[self.index].clone()
        return tensor.clone() if self.count == 1 else tensor.chunk(self.count)[self.index].clone()


@dataclass(frozen=True)
class Rule:
    """What the released code calls a part of ours; both are names of parameters, or prefixes of several."""

    released: str
    ours: str
    part: Part = field(default_factory=Part)


def from_released(
    state_dict: Mapping[str, Tensor],
    *,
    architecture: str,
    num_heads: int | None = None,
    dra: Literal["channel", "spatial"] = "channel",
) -> nn.Module:
    """The network that computes what the released code computes with these weights, in eval mode.

    Logits come out where the released code applies a sigmoid.

    Args:
        state_dict: Released names.
        architecture: `udtransnet`, `unet` or `r34_unet`.
        num_heads: Heads of the spatial attention; needed for udtransnet, because no shape tells.
        dra: Which recalibration the decoder was trained with; no shape tells either.

    Raises:
        ValueError: An unknown architecture or `dra`, or `num_heads` missing.
        RefusedError: Weights that are not of this architecture; every wrong name is listed.
    """
    model = _skeleton(state_dict, architecture=architecture, num_heads=num_heads, dra=dra)
    model.load_state_dict(_gather(state_dict, model))
    return model.eval()


def to_released(model: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Tensors keyed by our parameter names, under released names and in released shapes.

    Args:
        model: A UDTransNet whose four skips are DRA of one kind and whose transformer is whole, or a baseline with its
            four skips.
        tensors: Any subset of our names, such as gradients; the state dict by default.

    The released LayerNorms that are never used (`attn_norm`) have no counterpart here and are left out: load the result
    there with `strict=False`. Only names and shapes are translated; the released code computes the same with them only
    for `head_merge="released"` (or one head) and `embed_dim = 32 * num_heads`.

    Raises:
        ValueError: A name that the model does not have, or a network that the released code cannot express.
    """
    tensors = model.state_dict() if tensors is None else tensors
    rules = _rules_by_name(model)
    if unknown := sorted(set(tensors) - set(rules)):
        raise ValueError(f"not parameters of this model: {', '.join(unknown)}")
    return {rule.released: rule.part.of(tensor) for name, tensor in tensors.items() for rule in rules[name]}


def _skeleton(state_dict: Mapping[str, Tensor], *, architecture: str, num_heads: int | None, dra: str) -> ReleasedModel:
    """The model, its sizes read off the shapes."""
    first = "Conv1.conv.0.weight" if architecture == "unet" else "Conv1.0.weight"
    in_channels, num_classes = _shape(state_dict, first)[1], _shape(state_dict, "pred.3.weight")[0]
    if architecture == "unet":
        return UNet(in_channels=in_channels, num_classes=num_classes)
    if architecture == "r34_unet":
        return R34UNet(in_channels=in_channels, num_classes=num_classes)
    if architecture != "udtransnet":
        raise ValueError(f"architecture={architecture!r}; available: udtransnet, unet, r34_unet")
    if num_heads is None or dra not in ("channel", "spatial"):
        raise ValueError(f"num_heads={num_heads}, dra={dra!r}: udtransnet needs num_heads, and dra channel or spatial")
    _, tokens, embed_dim = _shape(state_dict, "mtc.embeddings_1.position_embeddings")
    layers = {key.split(".")[3] for key in state_dict if key.startswith("mtc.encoder.layer.")}
    return UDTransNet(
        in_channels=in_channels,
        num_classes=num_classes,
        num_heads=num_heads,
        num_layers=len(layers),
        embed_dim=embed_dim,
        skips=(f"dra_{dra}",) * len(LEVELS),
        head_merge="released",
        reference_grid=(math.isqrt(tokens), math.isqrt(tokens)),
    )


def _shape(state_dict: Mapping[str, Tensor], name: str) -> torch.Size:
    if name not in state_dict:
        raise RefusedError(f"not released weights of this architecture: {name} is missing")
    return state_dict[name].shape


def _gather(state_dict: Mapping[str, Tensor], model: ReleasedModel) -> dict[str, Tensor]:
    """Released tensors joined into our state dict; every name and shape checked first."""
    wanted = to_released(model)
    given = {name: tensor for name, tensor in state_dict.items() if not NEVER_USED.fullmatch(name)}
    problems = [f"{name} is missing" for name in wanted if name not in given]
    problems += [f"{name} is not of this architecture" for name in given if name not in wanted]
    problems += [
        f"{name} has shape {tuple(given[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if problems:
        raise RefusedError("these are not released weights of this architecture", problems)
    return {name: _join(rules, given) for name, rules in _rules_by_name(model).items()}


def _join(rules: Sequence[Rule], given: Mapping[str, Tensor]) -> Tensor:
    """The parts of one tensor of ours, in their order."""
    parts = [given[rule.released] for rule in sorted(rules, key=lambda rule: rule.part.index)]
    if rules[0].part.stacked:
        return torch.stack(parts)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rules_by_name(model: nn.Module) -> dict[str, list[Rule]]:
    """The rules of every tensor of the state dict, by its name."""
    if not isinstance(model, ReleasedModel):
        raise ValueError(f"a {type(model).__name__} was never released; UDTransNet, UNet and R34UNet were")
    allowed = {"dra_channel", "dra_spatial"} if isinstance(model, UDTransNet) else {"identity"}
    if len(set(model.skips)) != 1 or not set(model.skips) <= allowed:
        raise ValueError(f"skips={list(model.skips)}: the released code has four equal ones of {sorted(allowed)}")
    if isinstance(model, UDTransNet) and (model.attention, model.scales, model.mlp_ratio) != (BOTH, LEVELS, 2):
        raise ValueError(
            f"attention={list(model.attention)}, scales={list(model.scales)}, mlp_ratio={model.mlp_ratio}: "
            f"the released code has {list(BOTH)}, {list(LEVELS)} and 2"
        )
    prefixes = list(_prefix_rules(model))
    return {name: [_extend(rule, name) for rule in prefixes if _covers(rule, name)] for name in model.state_dict()}


def _covers(rule: Rule, name: str) -> bool:
    return name == rule.ours or name.startswith(f"{rule.ours}.")


def _extend(rule: Rule, name: str) -> Rule:
    return Rule(rule.released + name.removeprefix(rule.ours), name, rule.part)


def _prefix_rules(model: ReleasedModel) -> Iterator[Rule]:
    if isinstance(model, UNet):
        yield from (Rule(f"Conv{index + 1}.conv", f"encoder.levels.{index}") for index in range(len(LEVELS) + 1))
    else:
        yield Rule("Conv1", "encoder.stem")
        yield from (Rule(f"Conv{level + 1}", f"encoder.layer{level}") for level in LEVELS)
    for level in LEVELS:
        yield from (Rule(f"Up{level + 1}.{name}", f"decoder.level{level}.{name}") for name in ("up", "conv"))
        yield from _dra_rules(f"Up{level + 1}.pam", f"decoder.level{level}.skip")
    yield Rule("pred", "head")
    if isinstance(model, UDTransNet) and model.dat is not None:
        yield from _dat_rules(len(model.dat.blocks))


def _dra_rules(released: str, ours: str) -> Iterator[Rule]:
    names = {
        "conv": "gate",
        "patch_embeddings": "patch",
        "query": "query",
        "out": "output",
        "reconstruct.conv": "reconstruct",
        "reconstruct.norm": "reconstruct_norm",
    }
    yield from (Rule(f"{released}.{theirs}", f"{ours}.{name}") for theirs, name in names.items())
    yield from _chunk_rules(released, ("key", "value"), f"{ours}.key_value")


def _dat_rules(num_layers: int) -> Iterator[Rule]:
    for level in LEVELS:
        theirs, ours = f"mtc.embeddings_{level}", f"dat.embeddings.{level - 1}"
        yield Rule(f"{theirs}.position_embeddings", f"{ours}.position")
        yield Rule(f"{theirs}.patch_embeddings", f"{ours}.patch")
    yield from _scale_rules("mtc.encoder.encoder_norm{}", "dat.norm")
    for layer in range(num_layers):
        yield from _block_rules(f"mtc.encoder.layer.{layer}", f"dat.blocks.{layer}")


def _block_rules(released: str, ours: str) -> Iterator[Rule]:
    yield Rule(f"{released}.attn_norm_C", f"{ours}.fusion_norm")
    yield from _chunk_rules(f"{released}.channel_attn", ("query_C", "key_C", "value_C"), f"{ours}.cfa.qkv")
    yield from _chunk_rules(f"{released}.channel_attn", ("key", "value"), f"{ours}.ssa.key_value")
    yield from _scale_rules(f"{released}.attn_norm{{}}", f"{ours}.query_norm")
    yield from _scale_rules(f"{released}.channel_attn.query{{}}", f"{ours}.ssa.query")
    yield from _scale_rules(f"{released}.channel_attn.out{{}}", f"{ours}.ssa.output")
    yield from _scale_rules(f"{released}.ffn_norm{{}}", f"{ours}.mlp_norm")
    yield from _scale_rules(f"{released}.ffn{{}}.fc1", f"{ours}.mlp.hidden")
    yield from _scale_rules(f"{released}.ffn{{}}.fc2", f"{ours}.mlp.output")


def _chunk_rules(released: str, names: Sequence[str], ours: str) -> Iterator[Rule]:
    for index, name in enumerate(names):
        yield Rule(f"{released}.{name}", ours, Part(index, len(names)))


def _scale_rules(released: str, ours: str) -> Iterator[Rule]:
    for index, level in enumerate(LEVELS):
        yield Rule(released.format(level), ours, Part(index, len(LEVELS), stacked=True))
