"""What the objects mean, of all that is rendered: who reaches whom, how long a pod has to end, what is referred to."""

import functools
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import yaml

from kube.chart import (
    CHART,
    NAMESPACE,
    RELEASE,
    Chart,
    Object,
    Rendered,
    component_of,
    containers,
    environment,
    selects,
)
from kube.queries import check_queries
from stack.description import ROOT

COMPONENTS = {"gateway", "hotpath", "collector", "models"}
# What a process does after its drain: it closes connections, and gives its last spans 5 s.
CLOSING_S = 10
ADAPTER: list[dict[str, Any]] = yaml.safe_load((CHART / "adapter-rules.yaml").read_text())["rules"]["custom"]


@functools.cache
def documented() -> set[str]:
    """The variables that programs know."""
    texts = [(ROOT / f"docs/{name}.md").read_text() for name in ("config", "collector", "operator")]
    return {
        name for text in texts for name in re.findall(r"`((?:GATEWAY|HOTPATH|COLLECTOR|OPERATOR)_[A-Z0-9_]+)`", text)
    }


def labels(rendered: Rendered) -> dict[str, dict[str, str]]:
    """The labels of each component's pods; of hot paths those that the operator gives them, where it makes them."""
    found = {component: template["metadata"]["labels"] for component, template in rendered.workloads()}
    if "operator" in found:
        found["hotpath"] = {
            **found["operator"],
            "app.kubernetes.io/component": "hotpath",
            "triptych.dev/model": "minilm",
        }
    return found


def seconds(text: str) -> int:
    assert re.fullmatch(r"\d+s", text)
    return int(text[:-1])


def drain_s(component: str, env: dict[str, str]) -> float:
    """How long a process may take to end, by its own settings."""
    match component:
        case "gateway":
            return seconds(env["GATEWAY_DRAIN_DELAY"]) + seconds(env["GATEWAY_DRAIN_TIMEOUT"])
        case "hotpath":
            return int(env["HOTPATH_DRAIN_MS"]) / 1000
        case _:
            # Of the collector: it decides at once on what has come. Of the operator: it ends what it has begun.
            return 20


def test_a_pod_is_not_killed_before_it_has_drained(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        for component, template in rendered.workloads():
            if component == "models":
                continue
            (container,) = template["spec"]["containers"]
            before = container.get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})["sleep"]["seconds"]
            needed = before + drain_s(component, environment(container)) + CLOSING_S
            assert template["spec"]["terminationGracePeriodSeconds"] >= needed


def test_drains_are_as_long_as_the_values_say(chart: Chart) -> None:
    gateway = {"drain": {"delaySeconds": 20, "timeoutSeconds": 90}}
    rendered = chart.render({"gateway": gateway, "hotpath": {"preStopSeconds": 7, "drainSeconds": 60}})
    of = {component: template["spec"] for component, template in rendered.workloads()}
    env = environment(of["gateway"]["containers"][0])
    assert (env["GATEWAY_DRAIN_DELAY"], env["GATEWAY_DRAIN_TIMEOUT"]) == ("20s", "90s")
    assert of["gateway"]["terminationGracePeriodSeconds"] == 20 + 90 + 15
    (hotpath,) = of["hotpath"]["containers"]
    assert hotpath["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert environment(hotpath)["HOTPATH_DRAIN_MS"] == "60000"
    assert of["hotpath"]["terminationGracePeriodSeconds"] == 7 + 60 + 15


def test_variables_are_those_that_programs_know(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        for _, template in rendered.workloads():
            for container in containers(template):
                names = [each["name"] for each in container.get("env", [])]
                assert len(set(names)) == len(names)
                assert set(names) <= documented()


def test_the_chart_sets_what_it_does_not_let_be_set(chart: Chart, all_rendered: list[Rendered]) -> None:
    """Whatever it sets, of all that is rendered, is refused as a setting beside it."""
    ours = {
        (component, each["name"])
        for rendered in all_rendered
        for component, template in rendered.workloads()
        for each in template["spec"]["containers"][0].get("env", [])
        if component in ("gateway", "hotpath")
        and each["name"] not in rendered.values.get(component, {}).get("settings", {})
    }
    assert len(ours) > 25
    refusals = (CHART / "templates/refusals.yaml").read_text()
    assert {name for _, name in ours if f'"{name}"' not in refusals} == set()
    assert set(re.findall(r'"((?:GATEWAY|HOTPATH)_[A-Z_]+)"', refusals)) <= documented()


# -- who reaches whom


def admits(rendered: Rendered, to: str, port: str, peer: Object | None) -> bool:
    """Whether policies let a pod, of these labels and this namespace, reach a component's port by name."""
    pods = labels(rendered)
    policies = [
        each["spec"] for each in rendered.of_kind("NetworkPolicy") if selects(each["spec"]["podSelector"], pods[to])
    ]
    inward = [policy for policy in policies if "Ingress" in policy["policyTypes"]]
    if not inward:
        return True
    rules = [rule for policy in inward for rule in policy.get("ingress", [])]
    of_port = [rule for rule in rules if "ports" not in rule or port in [each["port"] for each in rule["ports"]]]
    return any("from" not in rule or any(is_peer(one, peer) for one in rule["from"]) for rule in of_port)


def is_peer(rule: Object, peer: Object | None) -> bool:
    if peer is None or "ipBlock" in rule:  # somebody from outside, whose address is none of those that are drawn
        return False
    if "namespaceSelector" in rule:
        inside = selects(rule["namespaceSelector"], peer["namespace"])
    else:
        inside = peer["namespace"].get("kubernetes.io/metadata.name") == NAMESPACE
    return inside and selects(rule.get("podSelector", {}), peer["labels"])


def peers(rendered: Rendered) -> dict[str, Object | None]:
    here = {"kubernetes.io/metadata.name": NAMESPACE}
    pods = labels(rendered)
    known: dict[str, Object | None] = {name: {"namespace": here, "labels": pods[name]} for name in pods}
    return {
        **known,
        "a stranger": {"namespace": here, "labels": {"app": "web"}},
        "another release's gateway": {
            "namespace": here,
            "labels": {**pods["gateway"], "app.kubernetes.io/instance": "other"},
        },
        "a gateway elsewhere": {
            "namespace": {"kubernetes.io/metadata.name": "elsewhere"},
            "labels": pods["gateway"],
        },
        "Prometheus": {"namespace": {"kubernetes.io/metadata.name": "monitoring"}, "labels": {"app": "prometheus"}},
        "outside": None,
    }


def reach(rendered: Rendered, to: str, port: str) -> set[str]:
    return {name for name, peer in peers(rendered).items() if admits(rendered, to, port, peer)}


def test_nobody_but_gateways_reaches_a_hot_path(all_rendered: list[Rendered]) -> None:
    guarded = [each for each in all_rendered if each.of_kind("NetworkPolicy")]
    assert len(guarded) > len(all_rendered) / 2
    for rendered in guarded:
        operators = {"operator"} & labels(rendered).keys()  # which asks what they serve
        assert reach(rendered, "hotpath", "grpc") == {"gateway"} | operators
        scrapers = reach(rendered, "gateway", "metrics")
        assert reach(rendered, "hotpath", "metrics") == scrapers | operators
        if operators:
            assert reach(rendered, "operator", "metrics") == scrapers
            assert reach(rendered, "operator", "health") == set()
            assert reach(rendered, "gateway", "admin") == (operators if admin_service(rendered) else set())
        if "collector" in labels(rendered):
            assert reach(rendered, "collector", "otlp") == {"gateway", "hotpath"}
        if "models" in labels(rendered):
            assert reach(rendered, "models", "any") == set()


def admin_service(rendered: Rendered) -> list[Object]:
    return [one for one in rendered.of_kind("Service") if one["metadata"]["name"] == f"{RELEASE}-admin"]


def test_the_admin_api_is_on_loopback_unless_the_operator_needs_it(all_rendered: list[Rendered]) -> None:
    operated = 0
    for rendered in all_rendered:
        template = dict(rendered.workloads())["gateway"]
        (gateway,) = template["spec"]["containers"]
        address = environment(gateway).get("GATEWAY_ADMIN_ADDRESS", "")
        if not admin_service(rendered):
            assert address in ("", "127.0.0.1:9466")
            assert "admin" not in {port["name"] for port in gateway["ports"]}
            continue
        operated += 1
        (service,) = admin_service(rendered)
        (operator,) = dict(rendered.workloads())["operator"]["spec"]["containers"]
        env = environment(operator)
        (port,) = service["spec"]["ports"]
        assert address == f"0.0.0.0:{port['port']}"
        assert env["OPERATOR_ADMIN_URL"] == f"http://{service['metadata']['name']}:{port['port']}"
        # Both have one credential, and what one makes the other has mounted.
        pods = dict(rendered.workloads()).values()
        secrets = {each["name"]: each["secret"] for pod in pods for each in pod["spec"]["volumes"] if "secret" in each}
        assert secrets["admin"]["secretName"] == rendered.values["gateway"]["admin"]
        mounted = {each["name"]: each for each in template["spec"]["volumes"]}["tenants"]["configMap"]["name"]
        assert env["OPERATOR_TENANTS"] == mounted
        plans = [one for one in rendered.of_kind("ConfigMap") if one["metadata"]["name"] == env["OPERATOR_PLANS"]]
        assert plans or env["OPERATOR_PLANS"] == "my-plans"
    assert operated


def test_the_plans_are_those_of_deploy(chart: Chart) -> None:
    values = {"models": {"from": "operator"}, "operator": {"tenants": True}, "gateway": {"admin": "credential"}}
    (text,) = chart.render(values).named("ConfigMap", "plans")["data"].values()
    file = yaml.safe_load((ROOT / "deploy/tenants/tenants.yaml").read_text())
    assert yaml.safe_load(text) == {"plans": file["plans"]}


def test_the_api_is_for_everybody_and_metrics_for_who_is_named(defaults: Rendered, chart: Chart) -> None:
    assert reach(defaults, "gateway", "api") == set(peers(defaults))
    assert reach(defaults, "gateway", "metrics") == reach(defaults, "hotpath", "metrics") == {"Prometheus"}
    clients = [{"podSelector": {"matchLabels": {"app": "web"}}}]
    narrow = chart.render({"networkPolicy": {"clients": clients, "metricsFrom": []}})
    assert reach(narrow, "gateway", "api") == {"a stranger"}
    assert reach(narrow, "gateway", "metrics") == reach(narrow, "hotpath", "metrics") == set()


def test_hot_paths_connect_to_the_collector_alone(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        for policy in rendered.of_kind("NetworkPolicy"):
            if component_of(policy) != "hotpath":
                continue
            assert "Egress" in policy["spec"]["policyTypes"]
            egress = policy["spec"]["egress"]
            meant = rendered.values.get("networkPolicy", {}).get("hotpathTo", [])
            ours = [rule for rule in egress if rule not in meant]
            places = [(list(rule["to"]), [each["port"] for each in rule["ports"]]) for rule in ours]
            if "collector" in labels(rendered):
                (spans, names) = places
                (collector,) = spans[0]
                assert selects(collector["podSelector"], labels(rendered)["collector"])
                assert (spans[1], names[1]) == ([4317], [53, 53])
            else:
                assert places == []


# -- what belongs together


def test_selectors_find_their_own_pods_and_no_others(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        pods = labels(rendered)
        for one in rendered.objects:
            match one["kind"]:
                case "Service":
                    selector = {"matchLabels": one["spec"]["selector"]}
                case "Deployment" | "PodDisruptionBudget":
                    selector = one["spec"]["selector"]
                case "NetworkPolicy":
                    selector = one["spec"]["podSelector"]
                case _:
                    continue
            assert [name for name in pods if selects(selector, pods[name])] == [component_of(one)], one["kind"]


def test_selectors_never_change_so_that_any_release_can_be_upgraded(all_rendered: list[Rendered]) -> None:
    found = {
        (one["metadata"]["name"], json.dumps(one["spec"]["selector"], sort_keys=True))
        for rendered in all_rendered
        for one in rendered.of_kind("Deployment")
    }
    assert len(found) == 4


def test_ports_that_are_named_are_there(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        ports = {
            component: {port["name"] for each in containers(template) for port in each.get("ports", [])}
            for component, template in rendered.workloads()
        }
        ports.setdefault("hotpath", {"grpc", "metrics"})  # the operator's have them too
        for one in rendered.of_kind("Service"):
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports[component_of(one)]
        for _, template in rendered.workloads():
            for container in containers(template):
                probed = [container[key] for key in container if key.endswith("Probe")]
                named = {probe["httpGet"]["port"] for probe in probed if "httpGet" in probe}
                assert named <= {port["name"] for port in container.get("ports", [])}
        for one in rendered.of_kind("PodMonitor"):
            served = {component for component in ports if component != "models"}
            assert {endpoint["port"] for endpoint in one["spec"]["podMetricsEndpoints"]} == {"metrics"}
            assert all("metrics" in ports[component] for component in served)
            assert all(selects(one["spec"]["selector"], labels(rendered)[component]) for component in served)
            assert one["spec"]["jobLabel"] in labels(rendered)["gateway"]  # rules and dashboards ask for job="gateway"


def test_gateways_find_hot_paths_by_the_name_of_their_headless_service(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        service = rendered.named("Service", "hotpath")
        assert service["spec"]["clusterIP"] == "None"
        (port,) = service["spec"]["ports"]
        (gateway,) = dict(rendered.workloads())["gateway"]["spec"]["containers"]
        expected = f"dns:///{service['metadata']['name']}:{port['port']}"
        assert environment(gateway)["GATEWAY_HOTPATH_ADDRESSES"] == expected
        if "hotpath" not in dict(rendered.workloads()):
            continue  # they are the operator's
        # What is looked up is a pod's own port: there is no address between that could lead to another one.
        (hotpath,) = dict(rendered.workloads())["hotpath"]["spec"]["containers"]
        assert environment(hotpath)["HOTPATH_GRPC_ADDRESS"].endswith(f":{port['port']}")


def references(rendered: Rendered) -> Iterator[tuple[str, str, str | None]]:
    """The kind, the name and the key, if it matters, of all that pods refer to."""
    for _, template in rendered.workloads():
        for volume in template["spec"].get("volumes", []):
            if "configMap" in volume:
                key = {"tenants": "tenants.yaml", "config": "collector.yaml"}[volume["name"]]
                yield "ConfigMap", volume["configMap"]["name"], key
            if "secret" in volume:
                yield "Secret", volume["secret"]["secretName"], None
            if "persistentVolumeClaim" in volume:
                yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], None
        for container in containers(template):
            for each in container.get("env", []):
                if "secretKeyRef" in each.get("valueFrom", {}):
                    secret = each["valueFrom"]["secretKeyRef"]
                    yield "Secret", secret["name"], secret["key"]


def test_what_pods_refer_to_is_rendered_or_named_by_a_value(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        made = {(one["kind"], one["metadata"]["name"]): one for one in rendered.objects}
        values = yaml.safe_load((CHART / "production.yaml").read_text()) if not rendered.values else rendered.values
        meant = set(re.findall(r'"([\w-]+)"', json.dumps(values)))
        for kind, name, key in references(rendered):
            if (kind, name) in made:
                assert key is None or made[kind, name]["data"][key].strip()
            else:
                assert name in meant or name == f"{RELEASE}-tenants-file", (kind, name)  # that one is the operator's


def test_what_is_mounted_is_there_and_what_is_there_is_mounted(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        for _, template in rendered.workloads():
            mounted = {mount["name"] for each in containers(template) for mount in each["volumeMounts"]}
            assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}


def test_no_secret_is_ever_in_what_is_rendered(all_rendered: list[Rendered]) -> None:
    assert [one for rendered in all_rendered for one in rendered.of_kind("Secret")] == []
    secret = {"GATEWAY_DATABASE_URL", "GATEWAY_REDIS_URL"}
    for rendered in all_rendered:
        for _, template in rendered.workloads():
            for container in containers(template):
                assert not secret & environment(container).keys()


def test_tenants_and_the_collector_are_those_of_deploy(chart: Chart) -> None:
    rendered = chart.render({"collector": {"enabled": True}})
    for component, path in (("tenants", "tenants/tenants.yaml"), ("collector", "observe/collector.yaml")):
        (text,) = rendered.named("ConfigMap", component)["data"].values()
        assert text.strip() == (ROOT / "deploy" / path).read_text().strip()


def test_images_are_those_that_deploy_builds(all_rendered: list[Rendered]) -> None:
    built = {f"triptych-{path.name.removesuffix('.Dockerfile')}" for path in (ROOT / "deploy").glob("*.Dockerfile")}
    for rendered in all_rendered:
        images = rendered.values.get("images", {})
        for _, template in rendered.workloads():
            for container in containers(template):
                registry, _, name = container["image"].rpartition("/")
                assert registry == images.get("registry", "")
                name, _, tag = name.partition(":")
                assert name in built
                assert tag == images.get("tag", "latest")


# -- how many, and where


def test_an_autoscaler_and_a_count_are_never_both_there(all_rendered: list[Rendered]) -> None:
    for rendered in all_rendered:
        scaled = {one["spec"]["scaleTargetRef"]["name"] for one in rendered.of_kind("HorizontalPodAutoscaler")}
        for one in rendered.of_kind("Deployment"):
            assert ("replicas" in one["spec"]) is not (one["metadata"]["name"] in scaled)


def test_one_volume_is_never_two_gateways_at_a_time(chart: Chart, all_rendered: list[Rendered]) -> None:
    # A volume that several nodes may mount does not make its database one of several gateways.
    shared = chart.render({"gateway": {"persistence": {"accessMode": "ReadWriteMany"}}})
    for rendered in (shared, *all_rendered):
        deployment = rendered.named("Deployment", "gateway")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        embedded = "GATEWAY_DATA" in environment(container)
        if deployment["spec"]["strategy"]["type"] == "Recreate":
            assert deployment["spec"]["replicas"] == 1
        else:
            assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
            assert not embedded


def test_every_gateway_knows_how_many_share_the_redis(production: Rendered) -> None:
    (gateway,) = dict(production.workloads())["gateway"]["spec"]["containers"]
    (scaler,) = [one for one in production.of_kind("HorizontalPodAutoscaler") if component_of(one) == "gateway"]
    assert environment(gateway)["GATEWAY_REDIS_GATEWAYS"] == str(scaler["spec"]["maxReplicas"])


def test_replicas_are_spread_over_zones_and_nodes(production: Rendered) -> None:
    pods = labels(production)
    for component, template in production.workloads():
        if component in ("gateway", "hotpath"):
            spread = template["spec"]["topologySpreadConstraints"]
            assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
            for each in spread:
                assert [name for name in pods if selects(each["labelSelector"], pods[name])] == [component]


def test_a_new_models_image_is_a_new_job_and_nothing_else_is(chart: Chart) -> None:
    def name(**values: Any) -> str:
        models = {"from": "job", "names": ["a"]}
        (job,) = chart.render({"models": models, **values}).of_kind("Job")
        text: str = job["metadata"]["name"]
        return text

    assert name() == name(gateway={"drain": {"delaySeconds": 9}})
    assert name() != name(images={"tag": "v2"})
    longest = chart.render({"models": {"from": "job", "names": ["a"]}}, release="a" * 53)
    assert all(len(one["metadata"]["name"]) <= 63 for one in longest.objects)


# -- what is scaled by


def test_what_the_adapter_tells_is_what_is_scaled_by(production: Rendered) -> None:
    (scaler,) = [one for one in production.of_kind("HorizontalPodAutoscaler") if component_of(one) == "hotpath"]
    asked = {each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"] if each["type"] == "Pods"}
    assert asked == {rule["seriesQuery"].split("{")[0] for rule in ADAPTER}
    assert {each["type"] for each in scaler["spec"]["metrics"]} == {"Pods", "Resource"}


def test_queries_of_the_adapter_are_queries(tmp_path: pathlib.Path) -> None:
    """As the adapter fills them in: for pods of a namespace, by pod."""
    filled = {"<<.LabelMatchers>>": f'namespace="{NAMESPACE}",pod=~"{RELEASE}-1|{RELEASE}-2"', "<<.GroupBy>>": "pod"}
    queries = []
    for rule in ADAPTER:
        assert rule["resources"]["overrides"] == {name: {"resource": name} for name in ("namespace", "pod")}
        query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"].split("{")[0])
        for placeholder, text in filled.items():
            query = query.replace(placeholder, text)
        assert "<<" not in query
        queries += [rule["seriesQuery"], query]
    check_queries(queries, tmp_path)
