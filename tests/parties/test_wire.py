"""A whole run of three parties through proxies: what somebody on the wire sees, and which frames are in it.

The sizes here are written down from docs/protocols.md, section 4, and not taken from the code that sends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_fair.mpc.kinds import Kind
from tests.parties import world
from tests.parties.commands import Start
from tests.parties.world import BATCH, TRAIN, Deployment
from tests.transport.test_tap import Tap, records

WIDTH, CLASSES, EPOCHS = 96, 2, 2
SHARE = 0.02  # of the bytes on the wire, what `cost.json` may leave out: TLS, its handshake, heartbeats
HANDSHAKE = 4096  # bytes of certificate and signature, which weigh on a direction that carries little
LINKS = {"auditor": ("developer",), "dealer": ("developer", "auditor")}
Frames = list[tuple[str, int]]

# method, release -> attribute, K, J: logits or columns of the moment
RUNS = {
    ("orth", "gradient"): ("Male", 2, 2),
    ("adv", "gradient"): ("SkinTone", 3, 3),
    ("orth", "moment"): ("Male", 2, 1),
}


def sizes() -> list[int]:
    """Records of each step."""
    full, rest = divmod(TRAIN, BATCH)
    return ([BATCH] * full + [rest]) * EPOCHS


def allowed(method: str, release: str) -> tuple[Frames, Frames]:
    """(kind, bytes) of each frame from developer to auditor and back; -1 for a hello in JSON, which has no one size."""
    _, k, j = RUNS[method, release]
    d1, c = WIDTH + 1, CLASSES
    there: Frames = [("HELLO", -1), ("HELLO", 32), ("RECORDS", 4 * TRAIN)]
    back: Frames = [("HELLO", -1), ("HELLO", 32), ("HELLO", 8)]
    if release == "moment":
        back.append(("HELLO", 8))
        there.append(("MASKED", 8 * TRAIN * (d1 + c)))
        back += [("MASKED", 8 * TRAIN * (j + c * j)), ("OPEN", 8 * d1 * c * j)]
        return [*there, ("END", 0)], back
    back.append(("HELLO", 40))
    for n in sizes():
        there.append(("STEP", 8 + 4 * n))
        if method == "orth":
            there += [("MASKED", size) for size in (4 * n * c, 4 * n * d1, 4 * (d1 * c * k + n * c * k))]
            back += [("MASKED", 4 * (n * k + n * c * k)), ("MASKED", 4 * d1 * c * k), ("OPEN", 4 * n * d1)]
        else:
            du = d1 + c - 1  # the adversary is told the task class
            x = (6 * n * du, 3 * n * j, 2 * n * du)  # the phase stands between two parts of X^
            there += [("MASKED", size) for size in (8 * du * j, *x, 8 * n * j, 8 * du * j)]
            back += [("MASKED", size) for size in (8 * du * j, 3 * n * j, 8 * n * j)]
            back += [("OPEN", 4 * n * WIDTH), ("MASKED", 8 * du * j)]
    return [*there, ("END", 0)], back


@pytest.fixture
def taps(deployment: Deployment) -> Iterator[dict[tuple[str, str], Tap]]:
    """A proxy for each pair of parties: (who listens, who connects)."""
    made = {(peer, role): Tap(deployment.addresses[peer]) for peer, roles in LINKS.items() for role in roles}
    yield made
    for tap in made.values():
        tap.close()


@pytest.mark.parametrize(("method", "release"), RUNS, ids=["-".join(run) for run in RUNS])
def test_what_crosses_the_wire(
    start: Start,
    tmp_path: Path,
    data: Path,
    deployment: Deployment,
    taps: dict[tuple[str, str], Tap],
    method: str,
    release: str,
) -> None:
    config = world.write_settings(tmp_path / "settings.toml", data, [RUNS[method, release][0]])
    own = {
        "dealer": (),
        "auditor": ("--policy", str(world.write_policy(tmp_path / "policy.toml", [release]))),
        "developer": ("--method", method, "--release", release),
    }
    started = []
    for role, arguments in own.items():
        peers = {f"network__peers__{peer}": tap.address for (peer, who), tap in taps.items() if who == role}
        line = deployment.party(role, config, tmp_path / role, *arguments, training__epochs=EPOCHS, **peers)
        started.append(start(role, line, {"FRAMES": str(tmp_path / f"{role}.frames")}))
    for party in started:
        assert party.wait() == 0, party.text

    names = (data / "auditor" / "attributes.csv").read_bytes().split(b"\n", 2)[1].split(b",")[0]
    for tap in taps.values():
        for stream in tap.seen:
            assert {kind for kind, _ in records(stream)} <= {20, 22, 23}  # what TLS 1.3 has, and nothing in the clear
            assert names not in stream
            assert b"nonce" not in stream

    there, back = allowed(method, release)
    seen = [line.split() for line in (tmp_path / "developer.frames").read_text().splitlines()]
    for direction, expected in (("sent", there), ("received", back)):
        found = [(kind, int(size)) for _, way, kind, size in seen if way == direction]
        assert len(found) == len(expected)
        for number, (frame, (kind, size)) in enumerate(zip(found, expected, strict=True)):
            assert frame == (kind, frame[1] if size == -1 else size), number
    mirrored = [line.split() for line in (tmp_path / "auditor.frames").read_text().splitlines()]
    other = {"sent": "received", "received": "sent"}
    for direction, opposite in other.items():
        mine = [line[2:] for line in seen if line[1] == direction]
        assert mine == [line[2:] for line in mirrored if line[1] == opposite]

    cost = json.loads((tmp_path / "developer" / "cost.json").read_text())
    sent, received = (len(stream) for stream in taps["auditor", "developer"].seen)
    for counted, wire in ((cost["bytes_sent"], sent), (cost["bytes_received"], received)):
        assert 0 <= wire - counted < max(SHARE * wire, HANDSHAKE)
    if release == "gradient":  # a moment of so few records is 117 kB: the handshake alone is 3 % of it
        total = cost["bytes_sent"] + cost["bytes_received"]
        assert total <= sent + received < total * (1 + SHARE)
    assert {kind for kind, _ in [*there, *back]} <= {kind.name for kind in Kind}
