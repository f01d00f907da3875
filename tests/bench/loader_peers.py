"""One peer's loader over the samples of `bench_loader.py`, in an environment of its own.

    python tests/bench/loader_peers.py PEER FOLDER [--workers N] [--bucket NAME]

FOLDER has images.npy and masks.npy; with a bucket, what the peer reads lies in S3 (the usual AWS variables lead there).
Prints one JSON object: samples per second and CPU milliseconds per sample of the first epoch and of the best later one.
"""

import argparse
import io
import json
import os
import shlex
import sys
import time
import types
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

BATCH = 32


class Samples:
    """What all peers are made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, self.masks = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "masks.npy")

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"image": np.array(self.images[index]), "mask": self.masks[index]}


def s3() -> Any:
    import boto3

    return boto3.client("s3")


def upload(folder: Path, bucket: str, prefix: str) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        s3().upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")


def litdata(samples: Samples, workers: int, bucket: str | None, compression: str | None = None) -> Iterable[Any]:
    """LitData's binary chunks; `batch_decode=False`, because its default decodes the same rows again and again."""
    import litdata as ld

    folder = samples.folder / f"litdata-{compression}"
    ld.optimize(
        samples.__getitem__, list(range(len(samples))), str(folder), chunk_bytes="64MB", num_workers=1,
        compression=compression,
    )  # fmt: skip
    where, options = str(folder), {}
    if bucket:
        from litdata.streaming import downloader

        # It has no setting for a server without TLS.
        downloader._OBSTORE_CLIENT_OPTIONS = {**downloader._OBSTORE_CLIENT_OPTIONS, "allow_http": True}
        upload(folder, bucket, folder.name)
        where = f"s3://{bucket}/{folder.name}"
        options = {"storage_options": {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}}
    dataset = ld.StreamingDataset(where, shuffle=True, drop_last=True, batch_decode=False, **options)
    return ld.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, drop_last=True)


def litdata_zstd(samples: Samples, workers: int, bucket: str | None) -> Iterable[Any]:
    return litdata(samples, workers, bucket, "zstd")


class _Anything(types.ModuleType):
    """Stands in for torchvision, of which there is no build here: `streaming` imports it for its vision classes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def streaming(samples: Samples, workers: int, bucket: str | None, compression: str | None = None) -> Iterable[Any]:
    """MosaicML Streaming's MDS shards."""
    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        sys.modules.setdefault(f"torchvision{name}", _Anything(f"torchvision{name}"))
    from streaming import MDSWriter, StreamingDataset

    folder = samples.folder / f"mds-{compression}"
    columns = {"image": "ndarray:uint8:3,224,224", "mask": "ndarray:uint8:224,224"}
    with MDSWriter(out=str(folder), columns=columns, compression=compression, size_limit="16mb") as writer:
        for index in range(len(samples)):
            writer.write(samples[index])
    where: dict[str, Any] = {"local": str(folder)}
    if bucket:
        upload(folder, bucket, folder.name)
        os.environ["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]
        where = {"local": str(samples.folder / f"mds-{compression}-local"), "remote": f"s3://{bucket}/{folder.name}"}
    dataset = StreamingDataset(**where, shuffle=True, batch_size=BATCH)
    return DataLoader(dataset, batch_size=BATCH, num_workers=workers, drop_last=True)


def streaming_zstd(samples: Samples, workers: int, bucket: str | None) -> Iterable[Any]:
    return streaming(samples, workers, bucket, "zstd")


def webdataset(samples: Samples, workers: int, bucket: str | None) -> Iterable[Any]:
    """Tar files of zstd-compressed arrays, a shuffle buffer of 256 samples."""
    import webdataset as wds
    import zstandard

    folder = samples.folder / "wds"
    folder.mkdir(exist_ok=True)
    with wds.ShardWriter(f"{folder}/%04d.tar", maxcount=64, verbose=0) as writer:
        for index in range(len(samples)):
            parts = {f"{name}.zst": zstandard.compress(array.tobytes()) for name, array in samples[index].items()}
            writer.write({"__key__": f"{index:06d}", **parts})
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    if bucket:
        upload(folder, bucket, "wds")
        keys = [{"Bucket": bucket, "Key": f"wds/{Path(url).name}"} for url in urls]
        signed = [s3().generate_presigned_url("get_object", Params=key) for key in keys]
        urls = [f"pipe:curl --silent --fail {shlex.quote(url)}" for url in signed]

    def decoded(sample: dict[str, Any]) -> dict[str, torch.Tensor]:
        raw = {name: np.frombuffer(zstandard.decompress(sample[f"{name}.zst"]), np.uint8) for name in ("image", "mask")}
        return {"image": torch.from_numpy(raw["image"].reshape(3, 224, 224).copy()),
                "mask": torch.from_numpy(raw["mask"].reshape(224, 224).copy())}  # fmt: skip

    dataset = wds.WebDataset(urls, shardshuffle=len(urls)).shuffle(256).map(decoded)
    return DataLoader(dataset, batch_size=BATCH, num_workers=workers, drop_last=True)


class Pngs(Dataset):
    """Image and mask as PNG files, read by OpenCV."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        import cv2

        image = cv2.cvtColor(cv2.imread(f"{self.folder}/{index}.png"), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(f"{self.folder}/{index}-mask.png", cv2.IMREAD_GRAYSCALE)
        return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)), "mask": mask}


def png(samples: Samples, workers: int, bucket: str | None) -> Iterable[Any]:
    """PNG files and OpenCV in a data set class of ten lines."""
    import cv2

    if bucket:
        raise NotImplementedError("OpenCV reads files")
    cv2.setNumThreads(1)
    folder = samples.folder / "png"
    folder.mkdir(exist_ok=True)
    for index in range(len(samples)):
        sample = samples[index]
        cv2.imwrite(f"{folder}/{index}.png", cv2.cvtColor(sample["image"].transpose(1, 2, 0), cv2.COLOR_RGB2BGR))
        cv2.imwrite(f"{folder}/{index}-mask.png", sample["mask"])
    return DataLoader(Pngs(folder, len(samples)), batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True)


PEERS: dict[str, Callable[[Samples, int, str | None], Iterable[Any]]] = {
    "litdata": litdata, "litdata_zstd": litdata_zstd, "streaming": streaming, "streaming_zstd": streaming_zstd,
    "webdataset": webdataset, "png": png,
}  # fmt: skip


def epoch(loader: Iterable[Any]) -> tuple[float, float]:
    """Samples per second, CPU milliseconds per sample (of this process, without workers)."""
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    for batch in loader:
        assert batch["image"].shape[1:] == (3, 224, 224)
        count += len(batch["image"])
    return count / (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--bucket")
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out, sys.stdout = sys.stdout, io.StringIO()
    loader = PEERS[options.peer](Samples(options.folder), options.workers, options.bucket)
    rates = [epoch(loader) for _ in range(1 + options.passes)]
    sys.stdout = out
    print(json.dumps({"first": rates[0], "steady": max(rates[1:])}))


if __name__ == "__main__":
    main()
