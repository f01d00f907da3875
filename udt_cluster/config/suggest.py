"""Unknown key -> the fields that were probably meant."""

import difflib

from udt_cluster.config.fields import all_fields, children

# What other tools call it. A key that needs more than another name has a sentence.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "accumulation": ("train.micro_batch_size",),
    "adaptor": ("data.adapter",),
    "amp": ("train.precision",),
    "arch": ("model.architecture",),
    "attention_heads": ("model.num_heads",),
    "augmentation": ("train.augment",),
    "backbone": ("model.architecture",),
    "batch": ("train.global_batch_size",),
    "batch_size": ("train.global_batch_size",),
    "checkpoint": ("train.checkpoint_every",),
    "class_names": ("data.classes",),
    "clip_grad": ("train.gradient_clipping",),
    "cpus": ("resources.cpus_per_worker",),
    "criterion": ("train.loss",),
    "cross_validation": ("repeat.folds",),
    "data_dir": ("data.source",),
    "data_path": ("data.source",),
    "dataset": ("data.adapter", "data.source"),
    "depth": ("model.num_layers",),
    "dim": ("model.embed_dim",),
    "epoch": ("train.epochs",),
    "experiment": ("name",),
    "experiment_name": ("name",),
    "finetune": ("train.init_from",),
    "folder": ("data.source",),
    "fold": ("repeat.folds",),
    "folds": ("repeat.folds", "data.splits.k"),
    "format": ("data.adapter",),
    "fp16": ("train.precision",),
    "gpu": ("resources.workers", "resources.gpus_per_worker"),
    "gpus": ("resources.workers", "resources.gpus_per_worker"),
    "grad_clip": ("train.gradient_clipping",),
    "gradient_accumulation_steps": ("train.micro_batch_size",),
    "gradient_clip_val": ("train.gradient_clipping",),
    "group": ("data.group_by",),
    "heads": ("model.num_heads",),
    "hidden_dim": ("model.embed_dim",),
    "id": ("name",),
    "image_dir": ("data.pairs.images",),
    "image_size": ("data.size",),
    "img_size": ("data.size",),
    "init": ("train.init_from",),
    "input_size": ("data.size",),
    "job": ("name",),
    "k_folds": ("data.splits.k",),
    "kfold": ("data.splits.k",),
    "label_dir": ("data.pairs.masks",),
    "labels": ("data.classes", "data.label_values"),
    "layers": ("model.num_layers",),
    "layout": ("data.adapter",),
    "learning_rate": ("train.lr",),
    "loss_function": ("train.loss",),
    "lr_scheduler": ("train.schedule",),
    "mask_dir": ("data.pairs.masks",),
    "max_epochs": ("train.epochs",),
    "max_grad_norm": ("train.gradient_clipping",),
    "mixed_precision": ("train.precision",),
    "model_name": ("register.model",),
    "n_epochs": ("train.epochs",),
    "n_folds": ("data.splits.k",),
    "network": ("model.architecture",),
    "normalisation": ("data.normalize",),
    "normalization": ("data.normalize",),
    "num_classes": ("data.classes",),
    "num_cpus": ("resources.cpus_per_worker",),
    "num_epochs": ("train.epochs",),
    "num_folds": ("data.splits.k",),
    "num_gpus": ("resources.workers", "resources.gpus_per_worker"),
    "num_workers": ("resources.workers",),
    "optim": ("train.optimizer",),
    "optimiser": ("train.optimizer",),
    "parallel": ("resources.workers",),
    "patch_size": ("data.size",),
    "path": ("data.source",),
    "patience": ("train.early_stopping",),
    "random_state": ("repeat.seeds",),
    "resolution": ("data.size",),
    "retries": ("resources.max_failures",),
    "root": ("data.source",),
    "save_every": ("train.checkpoint_every",),
    "scheduler": ("train.schedule",),
    "seed": ("repeat.seeds", "data.splits.seed"),
    "shape": ("data.size",),
    "skip": ("model.skips",),
    "skip_connections": ("model.skips",),
    "split": ("data.splits",),
    "steps": ("train.epochs", "stages"),
    "suffix": ("data.pairs.mask_suffix",),
    "target_size": ("data.size",),
    "test_set": ("evaluate.test",),
    "title": ("name",),
    "torch_compile": ("train.compile",),
    "type": ("data.adapter", "model.architecture"),
    "val_batch_size": ("evaluate.batch_size",),
    "wd": ("train.weight_decay",),
    "weights": ("model.pretrained", "train.init_from"),
    "width": ("model.embed_dim",),
    "world_size": ("resources.workers",),
    "zero": ("train.zero_stage",),
}
_REMARKS = {
    "in_channels": "the number of channels follows from the data; remove it",
    "num_classes": "the number of classes follows from data.classes",
    "target": "a target says where, a job says what: `udt-cluster submit JOB.yaml --target NAME`",
    "address": "a target says where, a job says what: `udt-cluster target add NAME`",
    "env": "a job file holds no environment; credentials are found on the target's nodes",
    "env_vars": "a job file holds no environment; credentials are found on the target's nodes",
    "runtime_env": "a job file holds no environment; the package and its versions are the target's",
    "pip": "a job installs nothing; the package and its versions are the target's",
    "device": "the device follows from the target; see resources.gpus_per_worker",
    "fp16": "bf16 is what there is: train.precision: bf16",
    "amp": "train.precision: bf16, or auto",
}


def suggestions(section: str, key: str) -> tuple[str, ...]:
    """Dotted paths that `key`, found in `section`, was probably meant to be; the likeliest first, at most three."""
    word = _normalised(key)
    here = {field.leaf: field.path for field in children(section)}
    if word in here:
        return (here[word],)
    if word in all_fields() and all_fields()[word].section is not None:
        return (word,)
    foreign = SYNONYMS.get(word, ())
    if inside := tuple(path for path in foreign if path.rpartition(".")[0] == section):
        return inside
    if found := tuple(dict.fromkeys((*foreign, *_named(word))))[:3]:
        return found
    if close := difflib.get_close_matches(word, here, n=1, cutoff=0.6):
        return (here[close[0]],)
    leaves = [field.leaf for field in all_fields().values()]
    if near := difflib.get_close_matches(word, leaves, n=1, cutoff=0.75):
        return _named(near[0])
    near = difflib.get_close_matches(word, SYNONYMS, n=1, cutoff=0.85)
    return SYNONYMS[near[0]] if near else ()


def _named(leaf: str) -> tuple[str, ...]:
    return tuple(path for path, field in all_fields().items() if field.leaf == leaf)


def unknown_key(section: str, key: str) -> str:
    """The message for a key that `section` does not have."""
    meant = suggestions(section, key)
    hint = f"did you mean {' or '.join(meant)}?" if meant else ""
    if section and meant == (key,):
        hint = f"`{key}` stands at the top, without indentation"
    remark = _REMARKS.get(_normalised(key)) or hint
    return f"unknown key; {remark}" if remark else "unknown key."


def allowed_keys(section: str) -> str:
    """A sentence with the keys that `section` has."""
    return f"Allowed {f'in {section}' if section else 'at the top'}: {', '.join(f.leaf for f in children(section))}"


def nearest(word: str, allowed: list[str]) -> str | None:
    """The allowed value that is nearest to what was written, if any is near."""
    close = difflib.get_close_matches(_normalised(word), allowed, n=1, cutoff=0.5)
    return close[0] if close else None


def _normalised(key: str) -> str:
    return key.strip().lower().replace("-", "_").replace(" ", "_")
