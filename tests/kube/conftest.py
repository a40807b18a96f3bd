"""What the chart is checked with, and everything that is rendered of it."""

import pytest

from e2e.databases import chance
from kube import tools
from kube.chart import PRODUCTION, Chart, Rendered
from kube.values import drawn

COMBINATIONS = 60


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    helm = tools.built("helm", "the chart is")
    return Chart(helm, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def defaults(chart: Chart) -> Rendered:
    return chart.render()


@pytest.fixture(scope="session")
def production(chart: Chart) -> Rendered:
    return chart.render(files=(PRODUCTION,))


@pytest.fixture(scope="session")
def all_rendered(chart: Chart, defaults: Rendered, production: Rendered) -> list[Rendered]:
    """The named examples, and combinations of a seed that a failure shows; TEST_SEED repeats it."""
    choose = chance()
    return [defaults, production, *(chart.render(drawn(choose)) for _ in range(COMBINATIONS))]
