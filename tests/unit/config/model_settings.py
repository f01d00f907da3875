"""Any settings of a network, for property tests: some that can be, some that cannot."""

from hypothesis import strategies as st

KINDS = ["none", "identity", "zero", "dat", "dra_channel", "dra_spatial"]

_DUPLICATES = st.lists(st.integers(1, 4), max_size=4)
_SKIPS = st.lists(st.sampled_from(KINDS), min_size=4, max_size=4)
_BASELINE_SKIPS = st.lists(st.sampled_from(KINDS[:3]), min_size=4, max_size=4)

MODELS = st.fixed_dictionaries(
    {"architecture": st.sampled_from(["udtransnet", "udtransnet", "unet", "r34_unet"])},
    optional={
        "skips": st.one_of(_SKIPS, _BASELINE_SKIPS),
        "scales": st.one_of(st.permutations([1, 2, 3, 4]), st.just([1, 2, 4]), st.just([2, 3]), _DUPLICATES),
        "attention": st.lists(st.sampled_from(["cfa", "ssa"]), max_size=2),
        "num_heads": st.sampled_from([1, 2, 3, 4]),
        "embed_dim": st.sampled_from([8, 16, 24]),
        "num_layers": st.integers(0, 2),
        "mlp_ratio": st.integers(0, 3),
        "head_merge": st.sampled_from(["standard", "released"]),
        "pretrained": st.sampled_from(["none", "imagenet"]),
    },
)
