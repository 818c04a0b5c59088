"""The key that was probably meant by an unknown one: by its last name, by its meaning, or by a similar spelling."""

import difflib
from collections.abc import Sequence

# Last names of keys in other programs -> keys that mean the same; the first one that the task has is proposed.
_MEANINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("learning_rate", "base_lr", "max_lr", "step_size"), ("optim.lr",)),
    **dict.fromkeys(("batch_size", "batchsize", "train_batch_size", "bs"), ("data.global_batch_size",)),
    **dict.fromkeys(
        ("per_device_batch_size", "per_device_train_batch_size", "batch_size_per_gpu"), ("data.micro_batch_size",)
    ),
    **dict.fromkeys(
        ("epochs", "num_epochs", "max_epochs", "steps", "num_steps", "iterations", "max_iters", "total_steps"),
        ("train.max_steps",),
    ),
    **dict.fromkeys(("codebook_size", "num_embeddings", "n_embed", "vocab_size", "k"), ("model.num_codes",)),
    **dict.fromkeys(("embedding_dim", "embed_dim", "codebook_dim", "latent_dim"), ("model.code_dim",)),
    **dict.fromkeys(("commitment_cost", "commitment_beta", "beta"), ("model.commitment_weight",)),
    **dict.fromkeys(("num_hiddens", "hidden_channels", "hidden_dim", "dim", "width", "channels"), ("model.hidden",)),
    **dict.fromkeys(("num_residual_layers", "num_res_blocks", "n_res_block"), ("model.residual_layers",)),
    **dict.fromkeys(("num_residual_hiddens", "n_res_channel"), ("model.residual_hidden",)),
    **dict.fromkeys(("num_layers", "n_layers", "depth"), ("model.layers", "model.residual_layers")),
    **dict.fromkeys(("kernel_size",), ("model.kernel",)),
    **dict.fromkeys(("num_classes", "n_classes", "class_conditional", "conditioning"), ("model.condition",)),
    **dict.fromkeys(("downsampling", "downsample_factor", "compression"), ("model.downsample",)),
    **dict.fromkeys(("decay", "codebook_decay"), ("model.ema_decay", "optim.weight_ema")),
    **dict.fromkeys(("ema", "use_ema", "ema_rate"), ("optim.weight_ema",)),
    **dict.fromkeys(("wd",), ("optim.weight_decay",)),
    **dict.fromkeys(("optimizer", "optim"), ("optim.name",)),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule"), ("optim.schedule",)),
    **dict.fromkeys(("warmup", "warmup_iters", "num_warmup_steps"), ("optim.warmup_steps",)),
    **dict.fromkeys(
        ("gradient_clip", "gradient_clipping", "gradient_clip_val", "max_grad_norm", "clip", "clip_grad_norm"),
        ("optim.grad_clip",),
    ),
    **dict.fromkeys(("amp", "fp16", "bf16", "mixed_precision", "dtype"), ("train.precision",)),
    **dict.fromkeys(("log_interval", "logging_steps", "log_freq"), ("train.log_every",)),
    **dict.fromkeys(("eval_interval", "eval_steps", "val_every", "validate_every"), ("train.eval_every",)),
    **dict.fromkeys(("early_stopping", "early_stop"), ("train.patience",)),
    **dict.fromkeys(("torch_compile",), ("train.compile",)),
    **dict.fromkeys(("save_every", "save_steps", "save_interval", "checkpoint_every"), ("checkpoint.every_steps",)),
    **dict.fromkeys(("save_total_limit", "keep_last"), ("checkpoint.keep",)),
    **dict.fromkeys(("resume_from_checkpoint", "pretrained", "init_from", "weights", "ckpt"), ("checkpoint.resume",)),
    **dict.fromkeys(
        ("data_dir", "data_path", "dataset", "dataset_path", "url", "urls", "shards", "train_data"),
        ("data.path",),
    ),
    **dict.fromkeys(("root", "path", "folder", "directory"), ("data.path", "run.dir")),
    **dict.fromkeys(("workers", "n_workers", "num_loaders"), ("data.num_workers",)),
    **dict.fromkeys(("flip", "horizontal_flip", "random_flip", "hflip"), ("data.mirror",)),
    **dict.fromkeys(("crop_size", "random_crop", "patch_size"), ("data.crop",)),
    **dict.fromkeys(("output_dir", "out_dir", "out", "logdir", "log_dir", "save_dir"), ("run.dir",)),
    **dict.fromkeys(("run_name", "exp_name", "experiment", "experiment_name"), ("run.name",)),
    **dict.fromkeys(("random_seed", "manual_seed"), ("run.seed",)),
    **dict.fromkeys(("accelerator", "gpu", "gpus"), ("run.device",)),
    **dict.fromkeys(("wandb", "wandb_mode", "use_wandb", "report_to"), ("tracking.mode",)),
    **dict.fromkeys(("wandb_project", "project_name"), ("tracking.project",)),
}


def suggest(name: str, known: Sequence[str]) -> str | None:
    """Return the key that was probably meant by a name, None if there is none.

    Another word for a key of the same section is most likely, then the same last name in another section, then another
    word for a key of another section, and last a similar spelling.

    Args:
        name: section.key, or a key without its section.
        known: every key as section.key, and the sections.
    """
    section, _, last = name.rpartition(".")
    last = last.lower().replace("-", "_")
    same = [key for key in known if key.rpartition(".")[2] == last]
    meant = [key for key in _MEANINGS.get(last, ()) if key in known]
    meant_here = [key for key in meant if key.rpartition(".")[0] == section]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return next(iter([*meant_here, *same, *meant, *near]), None)
