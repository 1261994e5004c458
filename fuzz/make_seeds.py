#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets from the recorded vectors: run it after the vectors change.

The seeds of `record` and `storage_recovery` are written by hand-made logs and are not made here.
"""

import json
import pathlib
import struct
import zlib

FUZZ = pathlib.Path(__file__).parent
CRATES = FUZZ.parent
golden = json.loads((CRATES / "wire/tests/vectors/golden.json").read_text())
events = golden["events"]
METHODS = [
    "store", "retrieve", "delete", "info", "get_swarm", "oxend_request", "batch", "sequence",
    "active_nodes_bin", "delete_all", "delete_before", "expire", "expire_all", "get_expiries", "ifelse",
    "revoke_subaccount", "revoked_subaccounts", "unrevoke_subaccount",
]


def seed(target, name, data):
    folder = FUZZ / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


for number, event in enumerate(events):
    if event["kind"] == "client_request":
        method = event["method"].split("(")[0]
        request = {"method": method, "params": event["params"]}
        seed("client_request_json", f"{number:02}_{method}", compact(request))
        if method in METHODS:
            seed("client_request_params", f"{number:02}_{method}_json",
                 bytes([METHODS.index(method)]) + compact(event["params"]))
        for node in json.loads(bytes.fromhex(event["reply"][-1])).get("snodes", []):
            seed("service_node", "swarm_" + node["port"], compact(node))
    elif event["kind"] == "from_node0":
        parts = [bytes.fromhex(part) for part in event["frames"][1:]]
        seed("omq", f"{number:02}_frames", b"\0".join(part.replace(b"\0", b"-") for part in parts))
        if parts[0] == b"sn.storage_cc":
            seed("bt", f"{number:02}_{parts[2].decode()}", parts[3])
            if parts[2].decode() in METHODS:
                seed("client_request_params", f"{number:02}_forwarded",
                     bytes([METHODS.index(parts[2].decode())]) + parts[3])
        elif parts[0] == b"sn.onion_request":
            seed("relayed_onion", f"{number:02}", parts[2])
            seed("bt", f"{number:02}_onion", parts[2])
        elif parts[0] == b"sn.data":
            seed("transfer", f"{number:02}", parts[2])
    elif event["kind"] == "onion_relay":
        seed("onion_frame", f"{number:02}", bytes.fromhex(event["payload"]))
    elif event["kind"] == "probe":
        seed("omq", f"{number:02}_probe", b"\0".join(bytes.fromhex(part) for part in event["sent"]))
        for reply in event["replies"]:
            if reply[-1].startswith("64"):
                seed("bt", f"{number:02}_reply", bytes.fromhex(reply[-1]))

requests = [{"method": "info", "params": {}}, {"method": "get_swarm", "params": {"pubkey": "05" + "ab" * 32}}]
for method in ("batch", "sequence"):
    seed("client_request_json", method, compact({"method": method, "params": {"requests": requests}}))
    seed("client_request_params", method, bytes([METHODS.index(method)]) + compact({"requests": requests}))
oxend = {"endpoint": "get_service_nodes", "params": {"active_only": True, "fields": {"public_ip": True}}}
seed("client_request_json", "oxend_request", compact({"method": "oxend_request", "params": oxend}))

key = "95a9c746fc617992aeea4ecaf4f168b559422e8eae5f452ca5c4f15acc35b2f5"
seed("onion_control", "final", b'{"headers":{},"json":true,"base64":false}')
seed("onion_control", "relay", compact({"destination": key, "ephemeral_key": key, "enc_type": "xchacha20"}))
seed("onion_control", "proxy", b'{"host":"h","target":"/oxen/v4/lsrpc","protocol":"http","port":80}')
seed("service_node", "network", compact({
    "ip": "127.0.0.1", "port": 1, "omq_port": 2, "pubkey_ed25519": key, "pubkey_x25519": key,
    "pubkey_legacy": key, "swarm_id": "7"}))
seed("service_node", "oxend", compact({
    "public_ip": "127.0.0.1", "storage_port": 1, "storage_lmq_port": 2, "pubkey_ed25519": key,
    "pubkey_x25519": key, "service_node_pubkey": key, "swarm_id": 7}))

greeting = bytes.fromhex("ff00000000000000007f0301") + b"CURVE".ljust(20, b"\0") + bytes(32)
ready = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
frames = b"\x01\x03abc\x00\x00\x04" + bytes([len(ready)]) + ready + b"\x02" + struct.pack(">Q", 300) + bytes(300)
seed("zmtp", "greeting", greeting)
seed("zmtp", "frames", greeting + frames)
for index, text in enumerate([b"filev2.getsession.org", b"116.203.53.213:8080", b"[2606:4700::1111]:443", b"0x7f.1"]):
    seed("host", str(index), text)
ping = b"23:l1:Ci0e10:snode_ping0:e"
seed("bt_stream", "ping", ping)
seed("bt_stream", "replies", b"15:l1:Ri12e4:ponge14:l1:Ei-3e3:404e" + ping)
seed("bt_stream", "cut", b"10485760:l1:Ci7e9:onion_req")
hello = b"\x05HELLO\x01\x00" + bytes(72) + bytes(range(32)) + struct.pack(">Q", 1) + bytes(80)
seed("curve_server", "hello", greeting + b"\x04\xc8" + hello)
seed("curve_server", "message", b"\x00\x30\x07MESSAGE" + struct.pack(">Q", 9) + bytes(32))
pieces = [b"\x01sn.ping", b"\x00tag", b"\x02\x04PING\x00\x10context", b"\x02\x04PONG", b"\x00", b""]
seed("curve_server", "sealed", b"".join(bytes([len(piece)]) + piece for piece in pieces))
welcome = b"\x07WELCOME" + bytes(160)
seed("curve_client", "welcome", b"\x04\xa8" + welcome)
seed("curve_client", "error", b"\x04\x07\x05ERROR\x00")

vector = (CRATES / "crypto/src/message/vector.txt").read_text().split()
seed("message", "libsodium", bytes.fromhex(vector[2]))
text = b"\x0a\x05Hello\x38\x83\xa0\xd8\x8b\xb1\x34"
content = b"\x0a" + bytes([len(text)]) + text + b"\x78\x83\xa0\xd8\x8b\xb1\x34\x80"
seed("message", "padded", content + bytes(-len(content) % 160))
seed("message", "text", "Grüße".encode())
for number, line in enumerate((CRATES / "crypto/src/account/vectors.txt").read_text().splitlines()[1:]):
    entropy, words, _ = line.split("|")
    seed("mnemonic", f"words_{number}", words.encode())
    seed("mnemonic", f"entropy_{number}", bytes.fromhex(entropy))

refused = json.loads((CRATES / "wire/tests/vectors/refused_requests.json").read_text())
for method, table in refused.items():
    seed("client_request_json", f"good_{method}", compact({"method": method, "params": table["good"]}))
    if method in METHODS:
        seed("client_request_params", f"good_{method}", bytes([METHODS.index(method)]) + compact(table["good"]))


def missed(entry):
    return struct.pack("<II", len(entry), zlib.crc32(entry)) + entry


seed("missed", "message", missed(b"\x01\x05" + bytes(range(64))))
seed("missed", "request", missed(b"\x02\x06deleted8:messageslee") + missed(b"\x02\x00"))
seed("missed", "torn", missed(b"\x01\x05" + bytes(64))[:40])

subscription = (
    b"d1:P32:" + bytes(range(32)) + b"1:S64:" + bytes(64) + b"1:T36:\x05\x03" + bytes(34)
    + b"1:di1e1:nli-10ei0ei5ee1:s64:" + bytes(64) + b"1:ti1800000000ee"
)
mailbox = b"d1:nli0ee1:p33:\x03" + bytes(32) + b"1:s64:" + bytes(64) + b"1:ti1800000000ee"
seed("monitor", "account", subscription)
seed("monitor", "list", b"l" + subscription + mailbox + b"e")

block = bytes(range(256)) + bytes(152)
seed("packet_request", "info", b"\0\x04info")
seed("packet_request", "get_swarm", b"\x02" + block * 2 + b"\x09get_swarm" + b"d6:pubkey66:05" + b"ab" * 32 + b"e")
seed("packet_request", "cut", b"\x02" + block)
seed("packet_request", "answer_json", b"\xc8\0\x01{}")
seed("packet_request", "answer_blocks", b"\x9d\x01\x04\x83\0")
descriptors = [path.read_bytes() for path in sorted((FUZZ / "seeds/descriptor").iterdir())]
seed("descriptor_list", "empty", b"le")
seed("descriptor_list", "some",
     b"l" + b"".join(str(len(each)).encode() + b":" + each for each in descriptors) + b"e")
