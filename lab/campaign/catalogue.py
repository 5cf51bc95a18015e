"""All faults that there are, by name."""

from __future__ import annotations

from lab.campaign import faults, first_boot_faults
from lab.campaign.fault import Fault

CATALOGUE: dict[str, Fault] = {
    found.name: found
    for module in (faults, first_boot_faults)
    for found in vars(module).values()
    if isinstance(found, Fault)
}
