"""The mode and what it asks of the rest: loopback only, or a list that holds no address."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import AfterValidator, BaseModel

from gateway import parameters
from gateway.config import ConfigError, describe, load, reach
from providers.contract import Adapter, ProviderSettings, Url
from schemas.vocabulary import Channel, Mode
from tests.unit.config.case import Case
from tests.unit.config.test_config_values import EXAMPLE, _example_secrets

ONE, TWO, THREE = "0" * 31 + "1", "ab" * 16, "c0ffee00" * 4
PHONE = "+8613912345678"
AWAY = "https://vendor.example.com"
OwnUrl = Annotated[Url, AfterValidator(lambda url: f"{url}/v1")]


class Region(BaseModel):
    host: Url
    label: str = "https://example.com/is-only-a-text"


class PostSettings(ProviderSettings):
    """Every way to write a Url down; `manual` is none."""

    token_url: Url = AWAY
    spare: Url | None = None
    mirrors: tuple[Url, ...] = ()
    pair: tuple[str, Url] | None = None
    by_region: dict[str, Region] = {}  # noqa: RUF012  pydantic copies it
    own: OwnUrl = AWAY
    manual: str = "https://example.com/manual"


class Post(Adapter):
    """A third party's."""

    name = "post"
    channel = Channel.SMS
    settings_type = PostSettings
    receipts = False


@pytest.fixture
def simulated(case: Case) -> Case:
    case.put("mode", "simulate")
    for name in ("texts", "bells", "calls"):
        case.put(f"providers/{name}/settings/base_url", "http://127.0.0.1:4010")
    return case


# --- simulate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["http://localhost:1", "https://LOCALHOST", "http://127.0.0.1:1/base", "http://127.200.3.4", "http://[::1]:1"],
)
def test_simulate_takes_loopback(simulated: Case, url: str) -> None:
    simulated.put("providers/texts/settings/base_url", url)
    assert simulated.load().mode is Mode.SIMULATE


@pytest.mark.parametrize(
    "url",
    [
        "https://api.twilio.com", "http://localhost.example.com", "http://localhost.", "http://sub.localhost",
        "http://127.0.0.1.example.com", "http://0.0.0.0", "http://[::]", "http://10.0.0.1", "http://169.254.169.254",
        "http://128.0.0.1", "http://127.1", "http://2130706433", "http://0x7f000001", "http://[::ffff:127.0.0.1]",
        "http://[::2]", "http://ip6-localhost", "http://gateway",
    ],
)  # fmt: skip
def test_simulate_refuses_everything_else_whatever_it_leads_to(simulated: Case, url: str) -> None:
    simulated.put("providers/texts/settings/base_url", url)
    assert simulated.found() == {("providers.texts.settings.base_url", "not_loopback")}
    assert url.rpartition("/")[2] not in str(simulated.error())


def test_simulate_asks_no_lender_elsewhere(simulated: Case) -> None:
    simulated.put("lenders/harbour/question", {"url": AWAY, "token": "env:TEXT_KEY"})
    assert simulated.found() == {("lenders.harbour.question.url", "not_loopback")}
    simulated.put("lenders/harbour/question/url", "http://127.0.0.1:4020/may")
    assert simulated.load().mode is Mode.SIMULATE


def test_every_url_of_a_third_partys_adapter_counts(simulated: Case) -> None:
    simulated.adapters["post"] = Post()
    simulated.put(
        "providers/posts",
        {
            "adapter": "post",
            "settings": {
                "base_url": AWAY, "spare": AWAY, "mirrors": ["http://localhost", AWAY], "pair": ["a", AWAY],
                "by_region": {"cn": {"host": AWAY}, "eu": {"host": "http://localhost"}},
            },
        },
    )  # fmt: skip
    assert {path.removeprefix("providers.posts.settings.") for path, _ in simulated.found()} == {
        "base_url", "token_url", "spare", "mirrors.1", "pair.1", "by_region.cn.host", "own",
    }  # fmt: skip
    assert {reason for _, reason in simulated.found()} == {"not_loopback"}


def test_a_url_is_told_beside_what_else_is_wrong_with_its_provider(simulated: Case) -> None:
    simulated.put("providers/bells/settings/base_url", AWAY)
    simulated.put("providers/bells/concurrency", 0)
    assert simulated.found() == {
        ("providers.bells.settings.base_url", "not_loopback"),
        ("providers.bells.concurrency", "wrong_value"),
    }


@pytest.mark.parametrize("url", ["http://proxy.example:3128", "http://10.0.0.1", "http://localhost.:3128"])
@pytest.mark.parametrize("at", ["", "providers/texts/"])
def test_simulate_refuses_a_proxy_elsewhere_too(simulated: Case, at: str, url: str) -> None:
    simulated.put(f"{at}outbound", {"proxy_url": url})
    (found,) = simulated.problems()
    assert str(found) == (
        f"{at.replace('/', '.')}outbound.proxy_url: is not on loopback, as mode simulate needs it: 127.0.0.0/8, ::1 or "
        "localhost (not_loopback)"
    )
    for mode in ("live", "allowlist"):
        simulated.put("mode", mode)
        assert simulated.load().mode is Mode(mode)


def test_simulate_refuses_a_proxy_that_a_variable_names(simulated: Case) -> None:
    simulated.environ["GATEWAY__OUTBOUND__PROXY_URL"] = "http://proxy.example:3128"
    assert simulated.found() == {("outbound.proxy_url", "not_loopback")}
    simulated.environ["GATEWAY__OUTBOUND__PROXY_URL"] = "http://127.0.0.1:3128"
    assert simulated.load().mode is Mode.SIMULATE


def test_in_simulate_the_vendors_own_addresses_are_refused_where_the_file_says_nothing(tmp_path: Path) -> None:
    tree = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(tree | {"mode": "simulate"}), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path, _example_secrets())
    assert {each.path for each in caught.value.problems} == {
        "providers.twilio.settings.base_url",
        "providers.firebase.settings.base_url",
        "providers.firebase.settings.token_url",
        "providers.aliyun.settings.base_url",
        "providers.aliyun_sms.settings.base_url",
        "providers.twilio_voice.settings.base_url",
    }


@pytest.mark.parametrize("mode", ["allowlist", "live"])
def test_the_other_modes_reach_vendors(case: Case, mode: str) -> None:
    case.put("mode", mode)
    assert case.load().mode == mode


# --- allowlist --------------------------------------------------------------------------------------------------------


def test_what_is_written_and_what_is_filed_are_both_listed(case: Case, tmp_path: Path) -> None:
    kept = tmp_path / "allowlist.txt"
    kept.write_text(f"# our own phones\n\n{ONE}\n  {TWO}  # Ann\r\n{ONE}\n")
    case.put("mode", "allowlist")
    case.put("allowlist", {"indexes": [TWO, THREE], "file": str(kept)})
    config = case.load()
    assert config.listed == {ONE, TWO, THREE}
    rows = dict(describe(config))
    assert (rows["allowlist.indexes"], rows["allowlist.file"]) == ("2 listed", str(kept))
    assert reach(config) == "mode allowlist: only the addresses listed are reached, 3 of them"


@pytest.mark.parametrize("empty", [{}, {"indexes": []}, {"file": "empty.txt"}])
def test_a_list_may_be_empty_and_then_lists_nobody(case: Case, tmp_path: Path, empty: dict[str, object]) -> None:
    if "file" in empty:
        (tmp_path / "empty.txt").touch()
        empty = {"file": str(tmp_path / "empty.txt")}
    case.put("mode", "allowlist")
    case.put("allowlist", empty)
    config = case.load()
    assert config.listed == frozenset()
    allowlist = parameters.allowlist(config, config.sealing.sealer())
    assert allowlist is not None
    assert not allowlist.lists(PHONE)


def test_without_a_list_mode_allowlist_lists_nobody(case: Case) -> None:
    case.put("mode", "allowlist")
    assert case.load().listed == frozenset()


def test_a_variable_names_list_and_mode(case: Case, tmp_path: Path) -> None:
    kept = tmp_path / "allowlist.txt"
    kept.write_text(ONE)
    case.environ |= {
        "GATEWAY__MODE": "allowlist",
        "GATEWAY__ALLOWLIST__FILE": str(kept),
        "GATEWAY__ALLOWLIST__INDEXES": f'["{TWO}"]',
    }
    config = case.load()
    assert (config.mode, config.listed) == (Mode.ALLOWLIST, frozenset({ONE, TWO}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{ONE}\n{PHONE}\n", "line 2 is no index of an address; "),
        (f"{PHONE}\n{ONE[1:]}\n{ONE}\n{TWO} {TWO}\n", "line 1 is no index of an address, nor are 2 more; "),
        (f"{ONE}\n{PHONE.encode()!r}".encode() + b"\xff", "is not UTF-8"),
    ],
)
def test_a_file_that_holds_anything_else_is_refused_and_not_repeated(
    case: Case, tmp_path: Path, content: str | bytes, says: str
) -> None:
    kept = tmp_path / "allowlist.txt"
    kept.write_bytes(content if isinstance(content, bytes) else content.encode())
    case.put("allowlist/file", str(kept))
    [found] = case.problems()
    assert found.path == "allowlist.file"
    assert found.message.startswith(says)
    assert PHONE[1:] not in str(case.error())


def test_an_address_in_the_list_is_not_repeated(case: Case) -> None:
    case.put("allowlist/indexes", [PHONE])
    assert PHONE[1:] not in str(case.error())
    case.tree["allowlist"]["indexes"] = [int(PHONE)]
    assert PHONE[1:] not in str(case.error())


# --- what the parts are told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode))
def test_the_parts_are_told_the_mode(simulated: Case, mode: Mode) -> None:
    simulated.put("mode", mode.value)
    simulated.put("allowlist/indexes", [ONE])
    config = simulated.load()
    allowlist = parameters.allowlist(config, config.sealing.sealer())
    assert repr(allowlist) == ("Allowlist(1 listed)" if mode is Mode.ALLOWLIST else "None")
    assert f"mode {mode}: " in reach(config)
    assert ("REAL PEOPLE" in reach(config)) == (mode is Mode.LIVE)
    assert next(iter(describe(config))) == ("mode", mode)
