"""Values that the chart does not take, and what it says then."""

from typing import Any

import pytest

from kube.chart import Chart, Refused, Values

MANY = {"gateway": {"replicas": 3}}
SHARED = {"database": {"secret": "postgres"}, "redis": {"secret": "redis"}}


def with_gateway(**more: Any) -> Values:
    return {**SHARED, "gateway": {"replicas": 3, "persistence": {"accessMode": "ReadWriteMany"}, **more}}


# What goes together badly: the values, and what the refusal says, which is what to do.
TOGETHER: list[tuple[Values, list[str]]] = [
    (MANY, ["gateway.replicas is 3", "embedded database is one gateway's", "database.secret", "have one gateway"]),
    (
        {"gateway": {"autoscaling": {"enabled": True, "max": 4}}},
        ["gateway.autoscaling.max is 4", "database.secret", "would let through 4 times", "redis.countAlone=true"],
    ),
    (
        {**with_gateway(), "redis": {}},
        ["gateway.replicas is 3 without a Redis", "let through 3 times", "redis.secret", "redis.countAlone=true"],
    ),
    ({**with_gateway(), "redis": {"secret": "a", "countAlone": True}}, ["redis.countAlone is true", "leave one"]),
    ({"gateway": {"persistence": {"enabled": False}}}, ["would be gone with the pod", "database.secret"]),
    (
        with_gateway(persistence={"accessMode": "ReadWriteOnce"}),
        ["accessMode is ReadWriteOnce", "3 gateways must have one folder", "persistence.enabled=false"],
    ),
    (
        {"hotpath": {"autoscaling": {"enabled": True, "min": 5, "max": 4}}},
        ["hotpath.autoscaling.min is 5, and max is 4"],
    ),
    (with_gateway(autoscaling={"enabled": True, "min": 7, "max": 6}), ["gateway.autoscaling.min is 7, and max is 6"]),
    ({"models": {"from": "claim"}}, ["models.claim"]),
    ({"models": {"claim": "mine"}}, ["models.from=claim"]),
    ({"models": {"from": "job"}}, ["models.names"]),
    (
        {
            "models": {"from": "job", "names": ["a"], "volume": {"accessMode": "ReadWriteOnce"}},
            "hotpath": {"replicas": 2},
        },
        ["models.volume.accessMode is ReadWriteOnce", "up to 2 hot paths", "models.from=image"],
    ),
    ({"models": {"from": "operator", "names": ["a"]}}, ["models.from is operator", "leave models.names out"]),
    (
        {"models": {"from": "operator"}, "hotpath": {"autoscaling": {"enabled": True}, "settings": {"HOTPATH_X": "1"}}},
        ["hotpath.autoscaling.enabled is true", "hotpath.settings has settings", "spec.hotPath.settings"],
    ),
    (
        {"operator": {"tenants": True}},
        ["operator.tenants is true, and models.from is image", "set that", "without an admin API", "gateway.admin"],
    ),
    (
        {
            "models": {"from": "operator"},
            "operator": {"tenants": True},
            "gateway": {"admin": "credential", "tenants": "mine"},
        },
        ["gateway.tenants is mine", "leave gateway.tenants out"],
    ),
    (
        {"models": {"from": "operator"}, "operator": {"plans": "mine"}},
        ["operator.plans is mine", "operator.tenants=true"],
    ),
    (
        {"gateway": {"settings": {"GATEWAY_DATABASE_URL": "postgres://me:secret@host/db"}}},
        ["gateway.settings.GATEWAY_DATABASE_URL", "what sets it is database.secret"],
    ),
    ({"hotpath": {"settings": {"HOTPATH_WORKERS": "2"}}}, ["hotpath.settings.HOTPATH_WORKERS", "requests.cpu"]),
    (
        {"collector": {"enabled": True}, "gateway": {"settings": {"GATEWAY_OTLP_ENDPOINT": "http://elsewhere:4317"}}},
        ["gateway.settings.GATEWAY_OTLP_ENDPOINT", "collector.enabled"],
    ),
]
# What no value may be: the values, and the name that the refusal has.
ALONE: list[tuple[Values, str]] = [
    ({"gatewy": {}}, "gatewy"),
    ({"gateway": {"replica": 2}}, "replica"),
    ({"gateway": {"replicas": 0}}, "replicas"),
    ({"gateway": {"replicas": "2"}}, "replicas"),
    ({"gateway": {"settings": {"GATEWAY_MAX_UPLOADS": 32}}}, "GATEWAY_MAX_UPLOADS"),
    ({"gateway": {"settings": {"HOTPATH_WORKERS": "1"}}}, "HOTPATH_WORKERS"),
    ({"gateway": {"drain": {"timeoutSeconds": "5m"}}}, "timeoutSeconds"),
    ({"gateway": {"service": {"type": "Public"}}}, "type"),
    ({"models": {"from": "web"}}, "from"),
    ({"hotpath": {"resources": {"requests": {"cpu": 2}}}}, "cpu"),
    ({"hotpath": {"resources": {"requests": {"cpu": None}}}}, "cpu"),
    ({"collector": {"traceRatio": "2"}}, "traceRatio"),
    ({"operator": {"replicas": 0}}, "replicas"),
    ({"operator": {"tenants": "yes"}}, "tenants"),
    ({"networkPolicy": {"metricsFrom": {}}}, "metricsFrom"),
]


@pytest.mark.parametrize(("values", "says"), TOGETHER)
def test_what_does_not_go_together_is_refused_with_its_remedy(chart: Chart, values: Values, says: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        chart.render(values)
    assert [words for words in says if words not in str(refused.value)] == []


@pytest.mark.parametrize(("values", "name"), ALONE)
def test_what_no_value_may_be_is_refused_by_its_name(chart: Chart, values: Values, name: str) -> None:
    with pytest.raises(Refused, match=rf"schema[\s\S]*{name}"):
        chart.render(values)


def test_everything_that_is_wrong_is_said_at_once(chart: Chart) -> None:
    with pytest.raises(Refused) as refused:
        chart.render({**MANY, "models": {"from": "claim"}, "hotpath": {"settings": {"HOTPATH_MODELS": "/elsewhere"}}})
    assert [
        words
        for words in ("database.secret", "redis.secret", "models.claim", "HOTPATH_MODELS")
        if words not in str(refused.value)
    ] == []


def test_a_release_whose_name_no_service_can_have_is_refused(chart: Chart) -> None:
    with pytest.raises(Refused, match=r"the release's name, a\.b"):
        chart.render(release="a.b")


def test_an_older_cluster_is_refused(chart: Chart) -> None:
    with pytest.raises(Refused, match="kubeVersion"):
        chart.render(None, "--kube-version=1.29.0")
    chart.render(None, "--kube-version=1.30.0")
