"""Debian's own installer, as the mirror has it today: the questions that preseed.cfg answers are among its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import Loaded
from images import sources, udebs
from images.cache import Cache
from images.deb import Package, firstboot_package
from images.errors import MirrorError
from images.preseed import write_preseed
from images.progress import Progress
from tests.image.conftest import CACHE
from tests.unit.test_images_preseed import answers, questions


def test_the_installer_of_today_knows_each_question(loaded: Loaded, tmp_path: Path) -> None:
    debian, cache = loaded.cluster.debian, Cache(CACHE)
    mirror = sources.resolve(debian)
    try:
        installer = udebs.netboot(mirror, debian.suite, cache, Progress())
        offer = udebs.survey_udebs(mirror, debian.suite, tmp_path)
    except MirrorError as e:
        pytest.skip(f"the mirror has no installer: {e.message}")
    wanted = [p for p in udebs.loaded(offer.packages, installer.kernel) if p.name not in installer.installed]
    fetched = udebs.fetch_templates(mirror, [p for p in wanted if not p.kernel], cache)
    package = firstboot_package(Package.read(), cache)
    written = write_preseed(loaded, package, tmp_path / "out", cache=cache, progress=Progress())[0].parent
    unknown = questions(answers(written)) - installer.templates - fetched.templates
    if unknown and fetched.lacking:
        pytest.skip(
            f"the mirror lacks {', '.join(fetched.lacking)}, so these could not be looked up: {sorted(unknown)}"
        )
    assert not unknown
