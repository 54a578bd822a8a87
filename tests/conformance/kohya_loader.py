"""Runs kohya's own loader on layouts. Executed by the python of a kohya venv, never imported by the tests.

    python kohya_loader.py SD_SCRIPTS QUESTIONS.json ANSWERS.json

QUESTIONS holds ``layouts``, each a list of command line options as of train_network.py, ``buckets``, each
[options of BucketManager, width, height], and ``configs``, each the document of a dataset config. Nothing is trained
and no model is loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def parser(tu: Any, cu: Any) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    tu.add_dataset_arguments(made, True, True, True)
    tu.add_training_arguments(made, True)
    tu.add_masked_loss_arguments(made)
    cu.add_config_arguments(made)
    made.add_argument("--validation_seed", type=int)  # these two as in train_network.py
    made.add_argument("--validation_split", type=float, default=0.0)
    return made


def blueprint(tu: Any, cu: Any, options: list[str]) -> Any:
    """As train_network.py makes it."""
    args = parser(tu, cu).parse_args(options)
    tu.prepare_dataset_args(args, True)
    if args.dataset_config:
        config = cu.load_user_config(args.dataset_config)
    else:
        subsets = cu.generate_dreambooth_subsets_config_by_subdirs(args.train_data_dir, args.reg_data_dir)
        config = {"datasets": [{"subsets": subsets}]}
    return cu.BlueprintGenerator(cu.ConfigSanitizer(True, True, args.masked_loss, True)).generate(config, args)


def answer(tu: Any, cu: Any, options: list[str]) -> dict[str, Any]:
    """What was registered, or the exception; then whether each image can be loaded as for caching."""
    try:
        group, _ = cu.generate_dataset_group_by_blueprint(blueprint(tu, cu, options).dataset_group)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return {"start": type(error).__name__, "images": [], "trained": [], "load": []}
    images, trained, failed = [], [], []
    for number, dataset in enumerate(group.datasets):
        for info in dataset.image_data.values():
            images.append([info.absolute_path, number, info.is_reg, info.num_repeats, info.caption, info.bucket_reso])
            trained.append(processed(dataset, info))
            try:
                pixels, *_ = tu.load_images_and_masks_for_caching([info], False, False)
                tu.torch.nn.functional.conv2d(pixels, tu.torch.zeros(1, 3, 3, 3), padding=1)  # as every VAE begins
            except Exception as error:  # noqa: BLE001
                failed.append([info.absolute_path, type(error).__name__])
    return {"start": None, "images": images, "trained": trained, "load": failed}


def processed(dataset: Any, info: Any) -> list[str]:
    """The texts an image is trained with, of 500 steps."""
    subset = dataset.image_to_subset[info.image_key]
    return sorted({dataset.process_caption(subset, info.caption) for _ in range(500)})


def bucket(tu: Any, options: dict[str, Any], width: int, height: int) -> list[int] | str:
    """The bucket of one image, or the exception's name."""
    try:
        manager = tu.BucketManager(
            options["no_upscale"], tuple(options["resolution"]), options["low"], options["high"], options["steps"]
        )
        if not options["no_upscale"]:
            manager.make_buckets()
        return list(map(int, manager.select_bucket(width, height)[0]))
    except Exception as error:  # noqa: BLE001
        return type(error).__name__


def is_taken(cu: Any, document: dict[str, Any]) -> bool:
    """Whether a dataset config passes the schema."""
    try:
        cu.ConfigSanitizer(True, True, False, True).sanitize_user_config(document)
    except Exception:  # noqa: BLE001
        return False
    return True


def main(scripts: str, questions: str, answers: str) -> None:
    os.environ.update(HF_HUB_OFFLINE="1", NO_ALBUMENTATIONS_UPDATE="1", CUDA_VISIBLE_DEVICES="")
    sys.path.insert(0, scripts)
    tu, cu = import_module("library.train_util"), import_module("library.config_util")
    asked = json.loads(Path(questions).read_text(encoding="utf-8"))
    made = {
        "layouts": [answer(tu, cu, options) for options in asked["layouts"]],
        "buckets": [bucket(tu, *one) for one in asked.get("buckets", ())],
        "configs": [is_taken(cu, document) for document in asked.get("configs", ())],
    }
    Path(answers).write_text(json.dumps(made), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
