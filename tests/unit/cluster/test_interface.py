"""Ranks talk over the card whose address Ray knows, unless the environment says otherwise."""

import os
import socket

import pytest
import ray.util

from udt_cluster.cluster.worker.interface import interface_of, use_interface_of_node


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_loopback_is_found_by_any_of_its_addresses(address: str) -> None:
    assert interface_of(address) == "lo"


def test_an_address_that_is_not_here_has_no_interface() -> None:
    assert interface_of("198.51.100.7") is None


def test_the_address_that_others_reach_has_an_interface() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no network but loopback")
        address = asked.getsockname()[0]
    assert interface_of(address) in {name for _, name in socket.if_nameindex()} - {"lo"}


@pytest.mark.parametrize(("before", "after"), [(None, "lo"), ("ib0", "ib0")])
def test_what_the_administrator_set_is_kept(before: str | None, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(variable, raising=False)
    if before is not None:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", before)
    use_interface_of_node()
    assert os.environ["GLOO_SOCKET_IFNAME"] == after
    assert os.environ["NCCL_SOCKET_IFNAME"] == "lo"
