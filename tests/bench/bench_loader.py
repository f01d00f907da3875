"""Samples per second of the loaders, first epoch and steady, local disk and a real S3 server, beside the peers.

    python3.11 -m venv PEERS && PEERS/bin/pip install torch==2.13.0 "numpy<2.2" opencv-python-headless webdataset \\
        zstandard boto3 lightning-utilities requests tifffile obstore "transformers<5" tqdm xxhash "zstd<2" Brotli \\
        python-snappy matplotlib paramiko google-cloud-storage catalogue psutil
    PEERS/bin/pip install --no-deps litdata==0.2.76 mosaicml-streaming==0.13.0
    OMP_NUM_THREADS=1 python tests/bench/bench_loader.py --samples 2048 --peers PEERS/bin/python

Samples are 224 x 224 x 3 crops of H&E where UDT_TEST_DATA has GlaS, else smooth noise; batches of 32, shuffled, in the
source's type. Files are in the page cache. "CPU ms" is the processor time of the reading process, all threads, per
sample. The first epoch is one pass with nothing decoded before, the median of --passes; steady is the best later pass.
The S3 server runs on the same cores. Nothing is asserted. Without --peers and without the S3 server those rows say so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import zarr

from tests.bench.loader_samples import SIDE, crops, write_store
from tests.servers.swift import S3Server, SwiftServers, swift_folder
from udt_cluster.data import DataStore, Normalization, TrainLoader
from udt_cluster.data.cache import sample_bytes
from udt_cluster.data.order import epoch_order
from udt_cluster.storage import Location

REPOSITORY = Path(__file__).resolve().parents[2]
BATCH = 32
PEERS = ("litdata", "litdata_zstd", "streaming", "streaming_zstd", "webdataset", "png")
Rate = tuple[float, float]
"""Samples per second, CPU milliseconds per sample."""


@dataclass(frozen=True)
class Row:
    """A line of the table; a pipeline that could not run says why."""

    name: str
    first: Rate | None = None
    steady: Rate | None = None
    remark: str = ""

    def __str__(self) -> str:
        cells = [f"{rate[0]:,.0f} | {rate[1]:.3f}" if rate else " | " for rate in (self.first, self.steady)]
        return f"| {self.name} | {' | '.join(cells)} | {self.remark} |"


def timed(run: Callable[[], int]) -> Rate:
    wall, cpu = time.perf_counter(), time.process_time()
    count = run()
    return count / (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu) / count


def middle(rates: list[Rate]) -> Rate:
    return sorted(rates)[len(rates) // 2]


def copies(images: np.ndarray, masks: np.ndarray) -> int:
    """The same gather from arrays in memory: nothing that reads samples can be faster."""
    order = np.random.default_rng(0).permutation(len(images))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        batch = torch.empty((BATCH, *images.shape[1:]), dtype=torch.uint8).numpy()
        labels = torch.empty((BATCH, SIDE, SIDE), dtype=torch.uint8).numpy()
        for row, sample in enumerate(order[start : start + BATCH]):
            batch[row], labels[row] = images[sample], masks[sample]
    return len(order) // BATCH * BATCH


def stock_zarr(store: DataStore, samples: int) -> int:
    """What a data set class of a dozen lines does: one read of each array per sample."""
    group: Any = zarr.open_group(store.location.zarr_store(read_only=True), mode="r")
    images, labels = group["images"], group["labels"]
    for sample in np.random.default_rng(0).permutation(images.shape[0])[:samples]:
        assert images[int(sample)].shape == (3, SIDE, SIDE)
        assert labels[int(sample)].shape == (SIDE, SIDE)
    return samples


def raw_gets(store: DataStore, threads: int) -> int:
    """The objects that an epoch needs, by the same client, looked at by nobody."""
    keys = [record.key for record in store.commit.objects if record.key.startswith(("images/c/", "labels/c/"))]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda key: len((store.location / key).read_bytes()), keys):
            pass
    return store.num_samples


def loader_of(store: DataStore, **settings: Any) -> TrainLoader:
    normalization = Normalization.from_fingerprint("auto", store.info.fingerprint, store.info.dtype)
    settings = {"threads": 4, "augment": "none", **settings}
    return TrainLoader(
        store, range(len(store.cases)), normalization=normalization, global_batch_size=BATCH, micro_batch_size=BATCH,
        rank=0, world_size=1, seed=0, device="cpu", **settings,
    )  # fmt: skip


def raw_epoch(loader: TrainLoader, epoch: int) -> int:
    """Batches up to where the device begins: in the source's type, as the peers' are."""
    order = epoch_order(loader._samples, seed=0, epoch=epoch, window=loader._window)
    samples = order[: len(order) // BATCH * BATCH]
    return sum(len(raw.samples) for raw in loader._reader.read(samples, BATCH))


def whole_epoch(loader: TrainLoader, epoch: int) -> int:
    return sum(len(batch.samples) for step in loader.epoch(epoch) for batch in step)


def ours(store: DataStore, name: str, run: Callable[[TrainLoader, int], int], passes: int, **settings: Any) -> Row:
    first, steady = [], []
    for _ in range(passes):
        loader = loader_of(store, **settings)
        first.append(timed(lambda loader=loader: run(loader, 0)))
        steady += [timed(lambda loader=loader, epoch=epoch: run(loader, epoch)) for epoch in (1, 2)]
        loader.close()
    return Row(name, middle(first), max(steady))


def own_rows(store: DataStore, passes: int) -> Iterator[Row]:
    data = store.num_samples * sample_bytes(store)
    for threads in (0, 1, 2, 4):
        yield ours(store, f"**ours**, {threads} threads", raw_epoch, passes, threads=threads)
    yield ours(store, "ours, cache for a quarter (windows)", raw_epoch, passes, cache_bytes=data // 4)
    yield ours(store, "ours, to float32, normalised", whole_epoch, passes)
    yield ours(store, "ours, to float32, `released`", whole_epoch, passes, augment="released")


def references(store: DataStore, images: np.ndarray, masks: np.ndarray, passes: int) -> Iterator[Row]:
    if store.location.is_local:
        yield Row("memcpy of arrays in memory", steady=max(timed(lambda: copies(images, masks)) for _ in range(passes)))
    gets = [timed(lambda: raw_gets(store, 4)) for _ in range(passes)]
    yield Row("raw GETs of the shards, 4 threads", middle(gets), remark="not decoded")
    few = min(store.num_samples, 256)
    yield Row("stock Zarr, sample by sample", timed(lambda: stock_zarr(store, few)))


def peer_row(python: str, peer: str, folder: Path, *, workers: int, server: S3Server | None, passes: int) -> Row:
    command = [python, str(REPOSITORY / "tests/bench/loader_peers.py"), peer, str(folder), "--workers", str(workers)]
    command += ["--passes", str(passes), *(["--bucket", server.make_bucket()] if server else [])]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **(server.environment if server else {})}
    name = f"{peer}, {workers} workers"
    try:
        ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=900)
    except subprocess.TimeoutExpired:
        return Row(name, remark="did not end in 900 s")
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if "Error" in line or "Exception" in line]
        return Row(name, remark=f"could not run: {said[-1].strip()[:160] if said else ran.returncode}")
    rates = json.loads(ran.stdout.splitlines()[-1])
    return Row(name, tuple(rates["first"]), tuple(rates["steady"]), "CPU without workers" if workers else "")


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server | None]:
    programs = swift_folder(REPOSITORY)
    if not (programs / "swift-proxy-server").is_file():
        yield None
        return
    servers = SwiftServers(programs, folder)
    try:
        server = servers.start()
        os.environ.update(server.environment)
        yield server
    finally:
        servers.stop()


def table(title: str, rows: Iterator[Row]) -> list[Row]:
    print(
        f"\n| {title} | first epoch, samples/s | CPU ms | steady, samples/s | CPU ms | |\n|---|---:|---:|---:|---:|---|"
    )
    done = []
    for row in rows:
        print(row, flush=True)
        done.append(row)
    return done


def rows_of(store: DataStore, arrays: tuple[np.ndarray, np.ndarray], folder: Path, options: argparse.Namespace,
            server: S3Server | None) -> Iterator[Row]:  # fmt: skip
    yield from references(store, *arrays, options.passes)
    yield from own_rows(store, options.passes)
    for peer in PEERS if options.peers else ():
        for workers in (0, 2):
            scratch = Path(tempfile.mkdtemp(dir=folder))
            for name in ("images.npy", "masks.npy"):
                (scratch / name).symlink_to(folder / name)
            yield peer_row(options.peers, peer, scratch, workers=workers, server=server, passes=options.passes)


def verdicts(local: list[Row], remote: list[Row]) -> None:
    def rate(rows: list[Row], start: str, what: str) -> float:
        return max([getattr(row, what)[0] for row in rows if row.name.startswith(start) and getattr(row, what)] or [0])

    fastest = max([rate(local, peer, "steady") for peer in PEERS])
    for name, rows in (("local", local), ("S3", remote)):
        if rows and fastest:
            print(
                f"\nsteady, {name}, over the fastest local peer: {rate(rows, '**ours', 'steady') / fastest:.2f} (1.5)"
            )
    if remote:
        gets = rate(remote, "raw", "first")
        print(f"\nfirst epoch from S3 over raw GETs: {rate(remote, '**ours', 'first') / gets:.2f} (0.8)")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--peers", help="python of the environment of the peers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="udt-bench-") as name:
        folder = Path(name)
        arrays = crops(options.samples)
        for array, file in zip(arrays, ("images.npy", "masks.npy"), strict=True):
            np.save(folder / file, array)
        store = write_store(Location.parse(folder), *arrays)
        print(f"{options.samples} samples, {store.info.shard_samples} a shard, {os.cpu_count()} cores")
        local, remote = table("local disk", rows_of(store, arrays, folder, options, None)), []
        with s3_server(folder / "swift") as server:
            if server is None:
                print("\nno S3 server here: run `make setup-test`")
            else:
                there = write_store(Location.parse(f"s3://{server.make_bucket()}"), *arrays)
                remote = table("S3 (Swift, same cores)", rows_of(there, arrays, folder, options, server))
        verdicts(local, remote)


if __name__ == "__main__":
    main()
