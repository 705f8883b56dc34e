"""A small Hub on this machine, for the real client: repos, commits with LFS, branches, tags.

It speaks the part of the Hub's HTTP that `huggingface_hub` and `datasets` use to create, push,
look into and download repos of models and data sets. Nothing is kept on disk.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKENS = {
    "hf_write": ("user", "write"),
    "hf_read": ("user", "read"),
    "hf_other": ("other", "write"),
}
LARGE = (".safetensors", ".parquet", ".png")  # go to LFS, as .gitattributes of the Hub says


@dataclass
class Repo:
    """Its files by commit, and what branches and tags point to."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        facts = [len(self.commits), branch, *sorted(files)]
        oid = hashlib.sha1(repr(facts).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def oid(self, revision: str) -> str:
        if revision in self.commits:
            return revision
        found = self.branches.get(revision) or self.tags.get(revision)
        if found is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found


class Refused(Exception):
    """Told to the client: status, code of the Hub and message."""


class SmallHub:
    """The Hub's state, which a test may look into and change.

    Attributes:
        repos: by kind and id: `datasets/user/name`, `models/user/name`.
        objects: of LFS, by SHA-256.
        requests: `METHOD path`, in their order.
        broken: how many of the next uploads of large files are refused.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.broken = 0
        self.lock = Lock()
        self.address = ""

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        one = self.repos[repo]
        return one.commits[one.oid(revision)]

    def edit(self, repo: str, **files: str) -> None:
        """A commit by hand, as in the Hub's editor; `README_md` names README.md."""
        changed = {name.replace("_md", ".md"): text.encode() for name, text in files.items()}
        self.repos[repo].commit("main", {**self.files(repo), **changed})

    @contextmanager
    def running(self) -> Iterator["SmallHub"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        server.daemon_threads = True
        self.address = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


REPO = r"(?P<kind>datasets|models)/(?P<id>[\w.-]+/[\w.-]+)"
API = rf"/api/{REPO}"
LINK = r"/(?P<set>datasets/)?(?P<id>[\w.-]+/[\w.-]+)"
ROUTES = (
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", rf"{API}(?:/revision/(?P<rev>[^/]+))?", "info"),
    ("GET", rf"{API}/tree/(?P<rev>[^/]+)(?:/(?P<path>.+))?", "tree"),
    ("POST", rf"{API}/paths-info/(?P<rev>[^/]+)", "paths"),
    ("GET", rf"{API}/refs", "refs"),
    ("POST", rf"{API}/branch/(?P<rev>[^/]+)", "branch"),
    ("POST", rf"{API}/tag/(?P<rev>[^/]+)", "tag"),
    ("POST", rf"{API}/preupload/(?P<rev>[^/]+)", "preupload"),
    ("POST", rf"{API}/commit/(?P<rev>[^/]+)", "commit"),
    ("POST", rf"{LINK}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "upload"),
    ("GET", rf"{LINK}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: SmallHub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        body = self._body()
        headers, status = {}, 200
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {parts.path}")
            try:
                found = next(
                    ((m, name) for verb, route, name in ROUTES
                     if verb == method and (m := re.fullmatch(route, parts.path))),
                    None,
                )  # fmt: skip
                if found is None:
                    raise Refused(404, "", f"no such page: {method} {parts.path}")
                words = {k: unquote(v) for k, v in found[0].groupdict().items() if v is not None}
                self.query = parse_qs(parts.query)
                content = getattr(self, f"_{found[1]}")(words, body)
                if isinstance(content, tuple):
                    content, headers = content
            except Refused as refused:
                status, code, message = refused.args
                content, headers = {"error": message}, {"X-Error-Message": message}
                content |= {"errors": [{"message": message}]}
                headers |= {"X-Error-Code": code} if code else {}
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _caller(self) -> tuple[str, str]:
        return TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "), ("", ""))

    def _repo(self, words: dict[str, str], *, write: bool = False) -> tuple[str, Repo]:
        kind = words.get("kind") or ("datasets" if "set" in words else "models")
        name = f"{kind}/{words['id']}"
        who, repo = self._caller()[0], self.hub.repos.get(name)
        if repo is None or (repo.private and who != words["id"].partition("/")[0]):
            raise Refused(404 if who else 401, "RepoNotFound", "Repository not found")
        if write:
            self._require_write(words["id"].partition("/")[0])
        return name, repo

    def _require_write(self, owner: str) -> None:
        who, right = self._caller()
        if not who:
            raise Refused(401, "", "Invalid username or password.")
        if who != owner or right != "write":
            raise Refused(403, "", "You don't have the rights to write into this namespace.")

    # ---- What is asked for ----

    def _create(self, words: dict[str, str], body: bytes) -> Any:
        asked = json.loads(body)
        owner = asked.get("organization") or self._caller()[0]
        self._require_write(owner)
        kind = f"{asked.get('type') or 'model'}s"
        name = f"{kind}/{owner}/{asked['name']}"
        if name in self.hub.repos:
            raise Refused(409, "", "You already created this repo")
        private = asked.get("visibility") == "private" or asked.get("private") is True
        repo = self.hub.repos[name] = Repo(private)
        repo.commit("main", {".gitattributes": b"*.parquet filter=lfs\n"})
        at = f"{self.hub.address}/{name.removeprefix('models/')}"
        return {"url": at, "name": f"{owner}/{asked['name']}"}

    def _validate(self, words: dict[str, str], body: bytes) -> Any:
        if "license: NOT-A-LICENSE" in json.loads(body)["content"]:
            raise Refused(400, "", '"license" is none of ours')
        return {"errors": [], "warnings": []}

    def _info(self, words: dict[str, str], body: bytes) -> Any:
        _, repo = self._repo(words)
        oid = repo.oid(words.get("rev", "main"))
        return {
            "id": words["id"],
            "_id": words["id"],
            "sha": oid,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [
                {"rfilename": path} | ({"size": len(content)} if "blobs" in self.query else {})
                for path, content in repo.commits[oid].items()
            ],
            "lastModified": "2026-01-01T00:00:00.000Z",
        }

    def _tree(self, words: dict[str, str], body: bytes) -> Any:
        _, repo = self._repo(words)
        files = repo.commits[repo.oid(words["rev"])]
        under = PurePosixPath(words.get("path", "."))
        inside = [path for path in files if PurePosixPath(path).is_relative_to(under)]
        if not inside and words.get("path"):
            raise Refused(404, "EntryNotFound", f"{under} does not exist on {words['rev']}")
        if self.query.get("recursive", ["false"])[0].lower() in ("true", "1"):
            return [*_folders(inside, under), *(_entry(p, files[p]) for p in inside)]
        here = [p for p in inside if PurePosixPath(p).parent == under]
        above = {p for p in map(str, PurePosixPath(under).parents)} | {str(under)}
        folders = [one for one in _folders(inside, under)
                   if str(PurePosixPath(one["path"]).parent) in above]  # fmt: skip
        return [*folders, *(_entry(p, files[p]) for p in here)]

    def _paths(self, words: dict[str, str], body: bytes) -> Any:
        _, repo = self._repo(words)
        files = repo.commits[repo.oid(words["rev"])]
        kind = self.headers.get("Content-Type", "")
        asked = json.loads(body) if "json" in kind else parse_qs(body.decode())
        wanted = asked["paths"]
        wanted = [wanted] if isinstance(wanted, str) else wanted
        folders = [one for one in _folders(files, PurePosixPath(".")) if one["path"] in wanted]
        return [*(_entry(path, files[path]) for path in wanted if path in files), *folders]

    def _refs(self, words: dict[str, str], body: bytes) -> Any:
        _, repo = self._repo(words)

        def listed(names: dict[str, str], at: str) -> list[dict[str, str]]:
            refs = names.items()
            return [{"name": n, "ref": f"{at}/{n}", "targetCommit": oid} for n, oid in refs]

        branches, tags = listed(repo.branches, "refs/heads"), listed(repo.tags, "refs/tags")
        return {"branches": branches, "tags": tags, "converts": []}

    def _branch(self, words: dict[str, str], body: bytes) -> Any:
        _, repo = self._repo(words, write=True)
        if words["rev"] in repo.branches:
            raise Refused(409, "", "Reference already exists")
        repo.branches[words["rev"]] = repo.oid("main")
        return {}

    def _tag(self, words: dict[str, str], body: bytes) -> Any:
        _, repo = self._repo(words, write=True)
        tag = json.loads(body)["tag"]
        if tag in repo.tags:
            raise Refused(409, "", "Reference already exists")
        repo.tags[tag] = repo.oid(words["rev"])
        return {}

    def _preupload(self, words: dict[str, str], body: bytes) -> Any:
        _, repo = self._repo(words, write=True)
        files = repo.commits[repo.oid(words["rev"])]
        return {
            "files": [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(one["path"], files[one["path"]]) if one["path"] in files else None,
                }
                for one in json.loads(body)["files"]
            ]
        }

    def _batch(self, words: dict[str, str], body: bytes) -> Any:
        self._repo(words, write=True)
        objects = []
        for one in json.loads(body)["objects"]:
            told = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                at = f"{self.hub.address}/lfs/{one['oid']}"
                told["actions"] = {"upload": {"href": at, "header": {}}}
            objects.append(told)
        return {"transfer": "basic", "objects": objects}

    def _upload(self, words: dict[str, str], body: bytes) -> Any:
        if self.hub.broken:
            self.hub.broken -= 1
            raise Refused(400, "", "the upload was cut off")
        assert hashlib.sha256(body).hexdigest() == words["oid"]
        self.hub.objects[words["oid"]] = body
        return b""

    def _commit(self, words: dict[str, str], body: bytes) -> Any:
        name, repo = self._repo(words, write=True)
        files = dict(repo.commits[repo.oid(words["rev"])])
        for line in body.splitlines():
            step = json.loads(line)
            key, value = step["key"], step["value"]
            if (
                key == "header"
                and value.get("parentCommit", head := repo.oid(words["rev"])) != head
            ):
                raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refused(400, "", f"{value['path']} was never uploaded")
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(words["rev"], files)
        return {"commitUrl": f"{self.hub.address}/{name}/commit/{oid}", "commitOid": oid}

    def _resolve(self, words: dict[str, str], body: bytes) -> Any:
        _, repo = self._repo(words)
        oid = repo.oid(words["rev"])
        path = words["path"]
        if path not in repo.commits[oid]:
            raise Refused(404, "EntryNotFound", f"{path} does not exist on {words['rev']}")
        data = repo.commits[oid][path]
        etag = f'"{_oid(path, data)}"'
        return data, {"X-Repo-Commit": oid, "ETag": etag, "X-Linked-Size": str(len(data))}


def _oid(path: str, data: bytes) -> str:
    if path.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": _oid(path, data)}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": _oid(path, data), "size": len(data), "pointerSize": 134}
    return entry


def _folders(paths: Any, under: PurePosixPath) -> list[dict[str, Any]]:
    above = {str(p) for path in paths for p in PurePosixPath(path).parents} - {".", str(under)}
    inside = sorted(p for p in above if PurePosixPath(p).is_relative_to(under))
    return [{"type": "directory", "path": p, "oid": "0" * 40, "size": 0} for p in inside]
