"""The values that a config is made of: sizes, names, addresses, each with its check and the words for what is wrong.

The loader hands over texts; every error here reads `what is wrong; what would be right`.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Interface, NetmaskValueError
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from config.findings import shown
from config.sizes import format_size, parse_size

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_SSH_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+( [^\n]*)?")
_FILE_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._+~-]{0,126}[A-Za-z0-9_+~-])?")
_PATH = re.compile(r"(?=.{2,255}$)(/[A-Za-z0-9._+~:,=@-]+)+")
_DEVICE_NAME = re.compile(r"(?i)con|aux|prn|nul|(com|lpt)[1-9]")
"""Not names of files on a FAT, where they are DOS's devices; mcopy refuses them."""
_BUILD_PATH = re.compile(r"/?[A-Za-z0-9._+~:,=@-]+(/[A-Za-z0-9._+~:,=@-]+)*/?")
_URI = re.compile(r"(https?://[A-Za-z0-9._~:-]+(?:/[A-Za-z0-9._~%+-]+)*|file:(?://)?(?:/[A-Za-z0-9._~+-]+)+)/?")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
"""Of OpenPGP keys of version 4 and 6."""
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


LINE_LIMIT = 300
"""Characters of a line of text. The pair keeps it as a tag of LVM: at most 1024 (lvm(8), TAGS), up to 3 a character."""


def _size_before(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 10 else parse_size(value)


def _whole_number(value: object) -> object:
    """The loader hands over texts, and pydantic alone would take 2_0, 20.0 and 020 for 20."""
    if isinstance(value, str) and not _WHOLE_NUMBER.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a whole number; write it in plain digits, like 20")
    return value


def _yes_or_no(value: object) -> object:
    """The loader hands over texts, and pydantic alone would take y, t, on and 1 for true."""
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise ValueError(f"{shown(value)} is neither true nor false; write true or false")
        return value == "true"
    return value


def _mac(value: str) -> str:
    mac = value.lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{shown(value)} is not a MAC address; write six hex pairs, like 52:54:00:12:34:56")
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{shown(value)} is a multicast MAC address; a network card's has an even first byte")
    return mac


def _host_name(value: str) -> str:
    if not _HOST_LABEL.fullmatch(value):
        raise ValueError(
            f"{shown(value)} is not a host name that heartbeat can compare with `uname -n`; "
            "use lower-case letters, digits and inner hyphens, at most 63"
        )
    return value


def _domain(value: str) -> str:
    if not all(_HOST_LABEL.fullmatch(label) for label in value.split(".")):
        raise ValueError(f"{shown(value)} is not a domain name; write it like example.org")
    return value


def _guest_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", value):
        raise ValueError(f"{shown(value)} is not a guest name; use a-z, 0-9 and hyphens, at most 32, no hyphen first")
    if value.endswith(("--incoming", "--migratedaway")):
        raise ValueError(f"{shown(value)} is how xl calls a guest that is being migrated; choose another name")
    return value


def _guest_address(value: object) -> object:
    if not isinstance(value, str) or value == "dhcp":
        return value
    try:
        return IPv4Interface(value)
    except (AddressValueError, NetmaskValueError):
        text = f"{shown(value)} is neither dhcp nor an IPv4 address with prefix length"
        raise ValueError(f"{text}; write it like 192.168.132.50/24") from None


def _file_name(value: str) -> str:
    if value.startswith("/"):
        if not _PATH.fullmatch(value) or {".", ".."} & set(value.split("/")):
            raise ValueError(f"{shown(value)} is not a plain absolute path; use letters, digits and . _ + ~ - : , = @")
    elif not _FILE_NAME.fullmatch(value) or _DEVICE_NAME.fullmatch(value):
        what = "is neither the plain name of a file beside the config nor an absolute path on the nodes"
        raise ValueError(f"{shown(value)} {what}; use letters, digits and . _ + ~ -, no dot first or last")
    return value


def _build_path(value: str) -> str:
    if not _BUILD_PATH.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a plain path; use letters, digits and . _ + ~ - : , = @")
    return value


def _repository_uri(value: str) -> str:
    if not _URI.fullmatch(value):
        # Not shown: it may hold a password.
        what = "is not the plain address of an archive, without user name or password"
        raise ValueError(f"{what}; write it like https://packages.example.org/debian")
    # As apt itself writes it.
    return re.sub(r"^file:/+", "file:/", value).rstrip("/")


def _fingerprint(value: str) -> str:
    """As gpg prints it, with or without spaces. A short key ID is easily forged."""
    digits = value.replace(" ", "").upper()
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError(
            f"{shown(value)} is not a whole fingerprint; write all 40 hex digits of it, as gpg prints them"
        )
    return digits


def _line(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("holds a character that is not printable ASCII; write plain text on one line")
    if len(value) > LINE_LIMIT:
        raise ValueError(f"is longer than {LINE_LIMIT} characters; shorten it")
    return value


def _one_or_several(value: object) -> object:
    """Said here, since pydantic would tell of a text that is none and of a list that is none at once."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, str) for item in items):
        raise ValueError(
            "is neither a serial number nor a list of them; "
            "write it like `serial: ABC123` or `serial: [ABC123, ABC124]`"
        )
    return value


def _ssh_key(value: str) -> str:
    if not _SSH_KEY.fullmatch(value):
        raise ValueError("not an SSH public key; paste the one line of a .pub file: `ssh-ed25519 AAAA... you@host`")
    return value


class _SizeSchema:
    """What editors are told of a size. WithJsonSchema would share one dict, into which pydantic writes defaults."""

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": "^[1-9][0-9]{0,11}[KMGT]$", "examples": ["4G", "512M"]}


Size = Annotated[
    int,
    BeforeValidator(_size_before),
    PlainSerializer(format_size, return_type=str),
    _SizeSchema(),
]
Mac = Annotated[str, AfterValidator(_mac)]
HostName = Annotated[str, AfterValidator(_host_name)]
Domain = Annotated[str, AfterValidator(_domain)]
GuestName = Annotated[str, AfterValidator(_guest_name)]
SshKey = Annotated[str, AfterValidator(_ssh_key)]
VolumeGroupName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62}$")]
WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
Port = Annotated[WholeNumber, Field(ge=1, le=65535)]
Seconds = Annotated[WholeNumber, Field(ge=1)]
BridgeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,14}$")]
GuestAddress = Annotated[Literal["dhcp"] | IPv4Interface, BeforeValidator(_guest_address)]
FileName = Annotated[str, AfterValidator(_file_name)]
Line = Annotated[str, AfterValidator(_line)]
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
BuildPath = Annotated[str, AfterValidator(_build_path)]
"""Of a file on the build host, from the config's directory or absolute."""
RepositoryUri = Annotated[str, AfterValidator(_repository_uri)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no)]
DiskText = Annotated[str, Field(min_length=1, max_length=128)]
DiskTexts = Annotated[DiskText | tuple[DiskText, ...], BeforeValidator(_one_or_several)]


class Model(BaseModel):
    """Base of every part: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
