"""Which network card the ranks of a training talk over.

Gloo asks the host's name for its address and, where the name is unknown or leads to loopback (as it does on Debian),
takes loopback: on one machine all is well, between two nobody is reached. Ray knows an address that others reach.
"""

import fcntl
import os
import socket
import struct

_ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of Linux
_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def use_interface_of_node() -> None:
    """Let gloo and NCCL use the interface of this Ray node's address; to be called before the process group is made.

    What the environment names already is kept: a cluster's administrator knows better.
    """
    from ray.util import get_node_ip_address

    name = interface_of(str(get_node_ip_address()))
    if name is not None:
        for variable in _VARIABLES:
            os.environ.setdefault(variable, name)


def interface_of(address: str) -> str | None:
    """Name of the interface that has an IPv4 address, or None; all of 127.* is loopback's."""
    if address.startswith("127."):
        address = "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asked, _ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
