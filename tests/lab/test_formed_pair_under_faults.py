"""A short campaign on the formed pair, always the same one. `invoke campaign` plays longer ones."""

from __future__ import annotations

import sys

import pytest

from lab.campaign.campaign import Campaign, Round, schedule
from lab.campaign.report import summary
from lab.pair import Lab

pytestmark = pytest.mark.lab

SEED = 7
FAULTS = ("cluster-flap", "disk-error")
"""What test_pulled_plugs does not pull; two of the catalogue, since a fault that ends in a boot takes minutes."""
LONG = ("disk-error",)


@pytest.fixture(scope="module")
def campaign(formed_lab: Lab | None) -> Campaign:
    """Ready to play, on the pair that the other tests have formed."""
    if formed_lab is None:
        pytest.skip("faults are for the lab's pair, not for hosts that somebody else has")
    campaign = Campaign(formed_lab, lambda text: print(text, file=sys.stderr))  # noqa: T201 -- shown where it fails
    campaign.prepare()
    return campaign


PLANNED = [
    pytest.param(planned, id=planned.fault.name, marks=[pytest.mark.long] if planned.fault.name in LONG else [])
    for planned in schedule(SEED, len(FAULTS), FAULTS)
]


@pytest.mark.parametrize("planned", PLANNED)
def test_the_pair_comes_back_and_every_audit_passes(campaign: Campaign, planned: Round) -> None:
    outcome = campaign.play(planned)
    assert not outcome.findings, summary(outcome)
