"""Tenants, by the operator's binary, a real API server and a real gateway: keys work, rotate, and end."""

import pathlib
import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import yaml

from kube.api import Answer, ApiServer
from kube.models import events
from kube.operator import LEADS, Operator
from kube.tenants import FILE, PLANS, Place, config_map, id_of, plans, secret, tenant
from stack.waiting import StackError, wait_until

LIMIT_AFTER_S = 70  # a minute is the longest between tries
LATE_S = 6  # a reply that has not come when the operator is killed


@pytest.fixture
def place(kinds: ApiServer, tmp_path: pathlib.Path, native_only: None) -> Iterator[Place]:
    place = Place(kinds, tmp_path)
    try:
        place.start()
        yield place
        told = place.all_told()
        assert place.seen
        assert [key for key in place.seen if key.split("_")[2] in told] == [], "a key is told"
        assert place.token_file.read_text().strip() not in told
    finally:
        place.end()


def file_of(place: Place) -> dict[str, dict[str, str]]:
    tenants: dict[str, dict[str, str]] = yaml.safe_load(place.server.get(config_map(FILE))["data"]["tenants.yaml"])[
        "tenants"
    ]
    return tenants


def test_a_tenant_has_a_key_that_works_and_ends_with_it(place: Place) -> None:
    acme = tenant("acme", secret="acme-key", scopes=["endpoint:/v1/models"])
    place.server.create(acme)
    message = place.until_told(acme, "NotYetKnown", carried=False)
    assert "do not know the tenant yet" in message
    found = place.until_ready(acme)
    key = place.keys("acme-key")["key"]
    assert place.keys("acme-key").keys() == {"key"}
    place.until_works(key)
    (made,) = place.made("acme")
    assert (made["id"], made["scopes"]) == (id_of(key), ["endpoint:/v1/models"])
    assert found["status"]["key"]["id"] == made["id"]
    (owner,) = place.server.get(secret("acme-key"))["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (found["metadata"]["uid"], True)
    place.server.delete(acme)
    wait_until("the tenant is gone", lambda: place.server.find(acme) is None, 30)
    assert place.server.find(secret("acme-key")) is None
    place.until_works(key, works=False)
    assert place.made("acme")[0]["revoked"] is not None
    wait_until("the file has it no longer", lambda: file_of(place) == {}, 10)
    reasons = [reason for _, reason, _ in events(place.server, "acme")]
    assert [reason for reason in reasons if reason != "NotYetKnown"] == ["KeyMade", "Ready", "KeyRevoked"]
    assert "Reconciler error" not in place.operator.log(), "to wait is no error"


def test_rotation_leaves_time_to_read_the_next_one(place: Place) -> None:
    acme = tenant("acme", secret="acme-key", rotateEvery="48h", overlap="8s")
    place.server.create(acme)
    first = place.until_ready(acme)["status"]["key"]
    old = place.keys("acme-key")["key"]
    # An hour later than it is, as far as the operator can tell.
    place.server.change(acme, {"status": {"key": {"createdAt": "2020-01-01T00:00:00Z"}}}, part="status")
    place.server.change(acme, {"spec": {"key": {"rotateEvery": "47h"}}})
    found = place.until(acme, "rotates", lambda found: found["status"]["key"]["serial"] > first["serial"])
    keys = place.keys("acme-key")
    assert keys["previous"] == old
    assert keys["key"] != old
    place.until_works(keys["key"])
    assert place.works(old)
    assert [each["id"] for each in found["status"]["previous"]] == [id_of(old)]
    wait_until("the one before is forgotten", lambda: place.keys("acme-key").keys() == {"key"}, 30)
    place.until_works(old, works=False)
    assert place.works(keys["key"])
    assert place.living("acme") == {id_of(keys["key"])}
    place.until_ready(acme)


def test_other_scopes_are_another_key(place: Place) -> None:
    acme = tenant("acme", secret="acme-key", scopes=["class:batch"])
    place.server.create(acme)
    place.until_ready(acme)
    old = place.keys("acme-key")["key"]
    for scopes in (["endpoint:/v1/models"], None):
        place.server.change(acme, {"spec": {"key": {"scopes": scopes}}})
        place.until_ready(acme)
        key = place.keys("acme-key")["key"]
        assert {made["id"]: made["scopes"] for made in place.made("acme")}[id_of(key)] == (scopes or [])
    place.until_works(old)  # for a day
    place.server.change(acme, {"spec": {"key": {"scopes": ["no such"]}}})
    assert "no such" in place.until_told(acme, "GatewayRefuses")
    place.server.change(acme, {"spec": {"key": None}})
    place.until_ready(acme)
    assert place.server.find(secret("acme-key")) is None
    assert [made["id"] for made in place.made("acme") if made["revoked"] is None] == []
    assert "finalizers" not in place.server.get(acme)["metadata"]


def test_a_secret_that_is_deleted_is_another_key(place: Place) -> None:
    acme = tenant("acme", secret="acme-key")
    place.server.create(acme)
    place.until_ready(acme)
    old = place.keys("acme-key")["key"]
    place.server.delete(secret("acme-key"))
    wait_until("another key", lambda: place.keys("acme-key").get("key", old) != old, 30)
    place.until_works(place.keys("acme-key")["key"])
    place.until_works(old, works=False)
    place.until_ready(acme)
    assert len(place.living("acme")) == 1


def alone(place: Place) -> None:
    """Another operator in the place of the one that there is, without a lease."""
    place.operator.kill()
    place.operator = Operator(
        place.server, place.stack.folder, *place.arguments(), "--leader-election=false", name="alone"
    )
    place.operator.start()


def in_flight(place: Place, what: str, is_made: Callable[[], bool], then: Callable[[], None]) -> None:
    """Have the gateway's answer be late, and do something when the gateway has made a key and nobody knows."""
    place.proxy.latency_s = LATE_S
    wait_until(what, lambda: bool(place.carry() and is_made()), 30, poll_s=0.05)
    then()
    place.proxy.latency_s = 0


def test_a_kill_between_the_answer_and_the_secret_makes_no_second_key(place: Place) -> None:
    acme = tenant("acme", secret="acme-key")
    place.server.create(acme)
    in_flight(place, "the key is made", lambda: len(place.made("acme")) == 1, place.operator.kill)
    assert place.server.find(secret("acme-key")) is None, "it was killed too late"
    assert place.server.get(acme)["status"]["pending"]["serial"] == 1
    place.operator.start()
    place.until_ready(acme)
    key = place.keys("acme-key")["key"]
    place.until_works(key)
    assert place.living("acme") == {id_of(key)}
    before = place.made("acme")
    # The same of a rotation: both that work are in the Secret, and the one that was lost has ended.
    place.server.change(acme, {"spec": {"key": {"scopes": ["endpoint:/v1/models"]}}})
    in_flight(place, "it is rotated", lambda: len(place.made("acme")) > len(before), place.operator.kill)
    assert place.keys("acme-key") == {"key": key}, "it was killed too late"
    place.operator.start()
    place.until_ready(acme)
    keys = place.keys("acme-key")
    assert keys["previous"] == key
    place.until_works(keys["key"])
    assert place.works(key)
    assert place.living("acme") == {id_of(keys["key"])}


def test_another_takes_over_between_the_answer_and_the_secret_and_makes_no_second_key(place: Place) -> None:
    """The leader is killed and stays away, once of a first key and once of a rotation."""
    acme = tenant("acme", secret="acme-key")
    with Operator(place.server, place.stack.folder, *place.arguments(), name="second") as second:
        operators, before = [place.operator, second], ""
        for scopes in (["class:batch"], ["endpoint:/v1/models"]):
            leader = wait_until("a leader", partial(leading, operators), 30)
            made = len(place.made("acme"))
            acme["spec"]["key"]["scopes"] = scopes
            place.server.apply(acme)
            in_flight(place, "the key is made", partial(more_than, place, made), leader.kill)
            assert place.keys("acme-key") == ({"key": before} if before else {}), "it was killed too late"
            place.until_ready(acme)
            keys = place.keys("acme-key")
            assert keys.get("previous", "") == before
            for key in keys.values():
                place.until_works(key)
            assert place.living("acme") == {id_of(keys["key"])}
            leader.start()
            before = keys["key"]
    assert len(place.made("acme")) == 4, "each that was lost has another one in its place"


def leading(operators: list[Operator]) -> Operator | None:
    """The one that said so last, of those that live since then."""
    leads = [each for each in operators if LEADS in each.log().rsplit('"starting"', 1)[-1]]
    return leads[0] if len(leads) == 1 else None


def more_than(place: Place, made: int) -> bool:
    return len(place.made("acme")) > made


def test_a_kill_and_a_deletion_leave_no_key(place: Place) -> None:
    acme = tenant("acme", secret="acme-key")
    place.server.create(acme)
    in_flight(place, "the key is made", lambda: len(place.made("acme")) == 1, place.operator.kill)
    place.server.delete(acme)
    place.operator.start()
    wait_until("the tenant is gone", lambda: place.server.find(acme) is None, 30)
    assert place.living("acme") == set()
    place.seen.add("trip_none_" + "-" * 43)  # nobody ever saw one


def test_an_api_server_that_goes_away_in_between_makes_no_second_key(place: Place) -> None:
    alone(place)  # a leader that cannot say that it is one ends
    acme = tenant("acme", secret="acme-key")
    place.server.create(acme)
    try:
        in_flight(place, "the key is made", lambda: len(place.made("acme")) == 1, place.server.stop)
        wait_until("the answer came", lambda: "writing the Secret" in place.operator.log(), 60)
    finally:
        place.server.start_again()
    place.until_ready(acme)
    key = place.keys("acme-key")["key"]
    place.until_works(key)
    assert place.living("acme") == {id_of(key)}


def test_a_gateway_that_is_away_is_waited_for(place: Place) -> None:
    assert place.stack.gateway is not None
    place.stack.gateway.kill()
    acme = tenant("acme", secret="acme-key")
    place.server.create(acme)
    assert "no gateway answers" in place.until_told(acme, "GatewayUnreachable")
    place.stack.start_gateway()
    place.until_ready(acme)
    key = place.keys("acme-key")["key"]
    place.until_works(key)
    place.stack.gateway.kill()
    place.server.delete(acme)
    place.until_told(acme, "GatewayUnreachable")
    place.stack.start_gateway()
    wait_until("the tenant is gone", lambda: place.server.find(acme) is None, LIMIT_AFTER_S)
    place.until_works(key, works=False)


def test_one_secret_is_one_tenants(place: Place) -> None:
    first, second = tenant("first", secret="shared"), tenant("second", secret="shared")
    place.server.create(first)
    place.until_ready(first)
    key = place.keys("shared")["key"]
    place.server.create(second)
    assert "There is a Secret shared already" in place.until_told(second, "SecretTaken")
    assert place.keys("shared") == {"key": key}
    assert place.made("second") == []
    place.server.delete(first)
    place.until_ready(second)
    assert place.living("second") == {id_of(place.keys("shared")["key"])}
    theirs = {**secret("theirs"), "stringData": {"key": "mine"}}
    place.server.create(theirs)
    third = tenant("third", secret="theirs")
    place.server.create(third)
    place.until_told(third, "SecretTaken")
    place.server.delete(third)
    wait_until("the tenant is gone", lambda: place.server.find(third) is None, 30)
    assert "ownerReferences" not in place.server.get(theirs)["metadata"]
    place.server.delete(theirs)


def test_plans_are_told_of_and_the_file_is_put_back(place: Place) -> None:
    acme, lost = tenant("acme", secret="acme-key"), tenant("lost", plan="huge")
    place.server.create(acme)
    place.server.create(lost)
    place.until_ready(acme)
    place.keys("acme-key")
    assert 'There is no plan "huge"' in place.until_told(lost, "PlanUnknown")
    assert file_of(place) == {"acme": {"plan": "small"}}
    good = place.server.get(config_map(FILE))["data"]
    place.server.change(config_map(FILE), {"data": {"tenants.yaml": "mine"}})
    wait_until("it is put back", lambda: place.server.get(config_map(FILE))["data"] == good, 10)
    place.server.apply(plans("plans: {small: {requests: 1}}"))
    for one in (acme, lost):
        assert one == acme or place.until_told(one, "PlanUnknown")
    assert 'unknown field "requests"' in place.until_told(acme, "PlansInvalid")
    assert place.server.get(config_map(FILE))["data"] == good
    place.server.delete(plans())
    wait_until("it is told", lambda: f"there is no ConfigMap {PLANS}" in place.until_told(acme, "PlansInvalid"), 10)
    place.server.apply(plans("plans: {huge: {requests_per_minute: 7}}"))
    place.until_ready(lost)
    assert 'keeps the plan "small"' in place.until_told(acme, "PlanUnknown")
    assert file_of(place) == {"acme": {"plan": "small"}, "lost": {"plan": "huge"}}
    place.server.apply(plans())
    place.until_ready(acme)


def test_another_admin_token_is_read_again(place: Place) -> None:
    good = place.token_file.read_text()
    broken = place.token_file.with_suffix(".new")
    broken.write_text("two words")
    broken.chmod(0o600)
    broken.rename(place.token_file)  # the gateway goes on with the old one
    acme = tenant("acme", secret="acme-key")
    place.server.create(acme)
    assert "must be one word" in place.until_told(acme, "GatewayUnreachable")
    place.token_file.write_text(good[::-1])
    place.until_ready(acme)
    place.keys("acme-key")


def test_an_operator_that_has_nothing_to_do_does_nothing(place: Place) -> None:
    alone(place)
    acme = tenant("acme", secret="acme-key", rotateEvery="48h")
    place.server.create(acme)
    place.until_ready(acme)
    place.keys("acme-key")

    def asked() -> float:
        found = re.findall(r"^rest_client_requests_total\{.*\} (\S+)$", place.operator.metrics(), re.M)
        return sum(float(each) for each in found)

    wait_until("it is quiet", lambda: is_quiet(asked), 30)
    assert place.living("acme") == {id_of(place.keys("acme-key")["key"])}


def is_quiet(asked: Callable[[], float]) -> bool:
    """Whether three seconds pass without a request."""
    before = asked()
    try:
        wait_until("a request", lambda: asked() != before, 3)
    except StackError:
        return True
    return False


def test_what_cannot_be_is_refused_by_the_server(kinds: ApiServer) -> None:
    for one, why in (
        (tenant("a" * 65), "64 letters at most"),
        (tenant("acme", secret="s", rotateEvery="59s", overlap="1s"), "rotateEvery is from 1m"),
        (tenant("acme", secret="s", overlap="-1s"), "overlap is from 0s"),
        (tenant("acme", secret="s", overlap="100000h"), "overlap is from 0s"),
        (tenant("acme", secret="s", rotateEvery="1h"), "overlap must not be longer"),
        (tenant("acme", plan=""), "spec.plan"),
    ):
        with pytest.raises(Answer, match=why):
            kinds.would_create(one)
