"""A daemon's HTTP API as a backend: one connection, bounded answers, errors as the daemon told them."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import quote, urlencode

from reconciler.cli.address import CONNECT_WITHIN_S, Address
from reconciler.cli.backend import Json
from reconciler.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    PermanentError,
    Problem,
    ReconcilerError,
    Refused,
    TemporaryError,
)
from reconciler.frozen import frozen
from reconciler.state.module_requests import LogRequest, VerifyRequest

ANSWER_WITHIN_S = 150.0
"""A little more than the daemon gives itself."""
ANSWER_BYTES_MAX = 256 * 1024 * 1024
LOOK_EVERY_S = 0.2
LOOK_PART = 4.0
"""Pause between two looks at a rollout, in times of how long one takes."""
_WITH_REASON = frozenset({"suspend", "stop", "start"})
VERSION_HEADER = "reconciler-version"


class NobodyAnswers(TemporaryError):
    """Nothing listens at the address."""


@frozen
class Trust:
    """Files for https: the CAs to trust (else those of the system), and a certificate with key to show."""

    ca: str | None = None
    client: str | None = None


class HttpBackend:
    """Asks a daemon; `token` is sent where there is one."""

    local = False

    def __init__(self, address: Address, token: str | None, trust: Trust | None = None) -> None:
        self._address = address
        self._token = token
        self._trust = trust if trust is not None else Trust()
        self._connection: HTTPConnection | None = None

    def probe(self) -> None:
        """See whether a daemon answers. Raises NobodyAnswers, or PermanentError where something else does."""
        self._request("GET", "/livez")

    def environments(self) -> list[Json]:
        """All environments."""
        found: list[Json] = self._get("/v1/environments")["environments"]
        return found

    def environment(self, name: str) -> Json:
        """One environment."""
        return self._get(_environment(name))

    def diff(
        self,
        name: str,
        *,
        ref: str | None,
        deployment: str | None,
        scope: str | None,
        spec: bytes | None = None,
        redeploy: Sequence[str] = (),
    ) -> Json:
        """The dry run."""
        path = _path(
            f"{_environment(name)}/diff",
            ref=ref,
            deployment=deployment,
            scope=scope,
            redeploy_schemas=list(redeploy) or None,
        )
        if spec is None:
            return self._request("GET", path)
        return self._request("POST", path, spec, "application/yaml")

    def apply(
        self,
        name: str,
        *,
        ref: str | None,
        deployment: str | None,
        scope: str | None,
        reason: str,
        allow_hazards: list[str],
        redeploy: Sequence[str] = (),
        keep_failed: bool = False,
    ) -> Json | None:
        """Record a rollout; None where there is nothing to do."""
        body = {
            "ref": ref,
            "deployment": deployment,
            "scope": scope,
            "reason": reason,
            "allow_hazards": allow_hazards,
            # What an older daemon does not know is only sent where it is asked for.
            **({"redeploy_schemas": list(redeploy)} if redeploy else {}),
            **({"keep_failed": True} if keep_failed else {}),
        }
        found: Json | None = self._post(f"{_environment(name)}/rollouts", body)["rollout"]
        return found

    def rollouts(self, name: str, *, limit: int) -> list[Json]:
        """The latest rollouts, newest first."""
        found: list[Json] = self._get(f"{_environment(name)}/rollouts", limit=limit)["rollouts"]
        return found

    def rollout(self, rollout: str) -> Json:
        """One rollout with its steps."""
        return self._get(f"/v1/rollouts/{_encoded(rollout)}")

    def request(
        self, rollout: str, verb: str, *, deployment: str | None, reason: str = "", digest: str | None = None
    ) -> Json:
        """Ask something of a rollout."""
        body: Json = {"deployment": deployment, "reason": reason}
        if digest is not None:
            body["digest"] = digest
        return self._post(f"/v1/rollouts/{_encoded(rollout)}/{verb}", body)

    def steer(self, name: str, verb: str, *, reason: str) -> Json:
        """Suspend, resume, reconcile, stop or start an environment."""
        return self._post(f"{_environment(name)}/{verb}", {"reason": reason} if verb in _WITH_REASON else {})

    def removal(self, name: str, databases: Sequence[str]) -> Json:
        """The dry run of removing an environment that left its source."""
        return self._get(f"{_environment(name)}/removal", databases=list(databases) or None)

    def remove(self, name: str, databases: Sequence[str], *, reason: str) -> Json | None:
        """Record the rollout that removes it."""
        asked = {"databases": list(databases), "reason": reason}
        rollout: Json | None = self._post(f"{_environment(name)}/remove", asked)["rollout"]
        return rollout

    def forget(self, name: str, deployment: str, *, reason: str) -> Json:
        """Stop telling of a deployment that left."""
        return self._post(f"{_environment(name)}/forget", {"deployment": deployment, "reason": reason})

    def outputs(self, name: str, *, deployment: str | None) -> list[Json]:
        """What its components put out."""
        found: list[Json] = self._get(f"{_environment(name)}/outputs", deployment=deployment)["outputs"]
        return found

    def jobs(self, name: str) -> list[Json]:
        """Its jobs."""
        found: list[Json] = self._get(f"{_environment(name)}/jobs")["jobs"]
        return found

    def events(self, name: str, *, after: int | None, limit: int) -> list[Json]:
        """Events of an environment by rising id."""
        found: list[Json] = self._get(f"{_environment(name)}/events", after=after, limit=limit)["events"]
        return found

    def module_status(self, name: str, *, deployment: str | None, module: str | None = None) -> Json:
        """What is deployed, pending and diverged of every module."""
        return self._get(f"{_environment(name)}/modules", deployment=deployment, module=module)

    def module_log(self, name: str, request: LogRequest, *, deployment: str | None) -> Json:
        """What was deployed and what failed."""
        return self._get(
            f"{_environment(name)}/modules/log",
            deployment=deployment,
            module=request.module,
            change=request.change,
            kind=request.kind,
            limit=request.limit,
        )

    def module_verify(self, name: str, request: VerifyRequest, *, deployment: str | None) -> Json:
        """Run the verify scripts of what is deployed."""
        body = {
            "deployment": deployment,
            "module": request.module,
            "from": request.first,
            "to": request.last,
        }
        return self._post(f"{_environment(name)}/modules/verify", body)

    def module_plan(self, name: str, module: str | None, verb: str, asked: Json) -> Json:
        """The dry run of a deploy or a revert of a module, or of all."""
        return self._post(f"{_module_path(name, module, verb)}/plan", asked)

    def module_run(self, name: str, module: str | None, verb: str, asked: Json) -> Json | None:
        """Record a rollout of one; None where there is nothing to do."""
        recorded: Json | None = self._post(_module_path(name, module, verb), asked)["rollout"]
        return recorded

    def watch(self, rollout: str) -> Iterator[Json]:
        """The rollout again and again; the daemon carries it out whether or not anybody looks."""
        while True:
            began = time.monotonic()
            found = self.rollout(rollout)
            # A rollout over many deployments takes long to tell; it is asked for less often.
            pause = max(LOOK_EVERY_S, LOOK_PART * (time.monotonic() - began))
            yield found
            time.sleep(pause)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get(self, path: str, **query: Any) -> Json:
        return self._request("GET", _path(path, **query))

    def _post(self, path: str, body: Mapping[str, Any]) -> Json:
        return self._request("POST", path, json.dumps(body).encode())

    def _request(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> Json:
        headers = {"Accept": "application/json", "User-Agent": "reconciler-cli"}
        if body is not None:
            headers["Content-Type"] = kind
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        response, content = self._exchange(method, self._address.path + path, body, headers)
        if response.headers.get(VERSION_HEADER) is None:
            raise PermanentError(
                f"what answers at {self._address.url} is not a reconciler",
                hint="name the right one with --server, or set `listen` in the settings",
            )
        value = _decoded(content, self._address)
        if response.status >= 400:
            raise _error(response.status, value)
        return value

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[HTTPResponse, bytes]:
        """Send and receive; only a reading request is sent again where an idle connection was closed."""
        reused = self._connection is not None
        connection = self._open()
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            content = response.read(ANSWER_BYTES_MAX + 1)
            if response.length and len(content) <= ANSWER_BYTES_MAX:
                # A daemon that was killed meanwhile; the library says nothing where a length was asked for.
                raise IncompleteRead(content, response.length)
        except (OSError, HTTPException) as error:
            self.close()
            if reused and method == "GET":
                return self._exchange(method, path, body, headers)
            if isinstance(error, TimeoutError):
                raise TemporaryError(f"the daemon at {self._address.url} did not answer in time") from error
            why = str(error) or type(error).__name__
            plain = "" if self._address.scheme == "https" else "; a daemon with `tls` is asked by https://"
            raise TemporaryError(
                f"the daemon at {self._address.url} ended the connection: {why}",
                hint=f"try again; `reconciler status` shows what was recorded{plain}",
            ) from error
        if len(content) > ANSWER_BYTES_MAX:
            raise PermanentError(f"the answer of {self._address.url} is larger than {ANSWER_BYTES_MAX} bytes")
        return response, content

    def _open(self) -> HTTPConnection:
        if self._connection is not None:
            return self._connection
        host, port = self._address.host, self._address.port
        if self._address.scheme == "https":
            from http.client import HTTPSConnection

            context = _tls(self._trust)
            connection: HTTPConnection = HTTPSConnection(
                host, port, timeout=CONNECT_WITHIN_S, context=context
            )
        else:
            connection = HTTPConnection(host, port, timeout=CONNECT_WITHIN_S)
        try:
            connection.connect()
        except OSError as error:
            if type(error).__module__ == "ssl":
                raise _untrusted(self._address, error) from error
            raise NobodyAnswers(
                f"nothing answers at {self._address.url}: {error.strerror or error}",
                hint="is the daemon running? `reconciler run` starts one",
            ) from error
        connection.sock.settimeout(ANSWER_WITHIN_S)
        self._connection = connection
        return connection


def _tls(trust: Trust) -> Any:
    """A context that checks names and certificates; `SSL_CERT_FILE` is heeded where no CA is named."""
    import ssl

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if trust.ca is not None:
            context = ssl.create_default_context(cafile=trust.ca)
        if trust.client is not None:
            context.load_cert_chain(trust.client, password=lambda: "")
    except (OSError, ValueError) as error:
        path = trust.ca if trust.client is None else f"{trust.ca or ''} {trust.client}".strip()
        why = error.strerror if isinstance(error, OSError) else None
        raise PermanentError(
            f"the certificates in '{path}' cannot be used: {why or error}",
            hint="name PEM files with --ca and RECONCILER_CLIENT_CERTIFICATE",
        ) from error
    return context


def _untrusted(address: Address, error: OSError) -> PermanentError:
    """What answers is there, but is not who it should be; nothing is to be done behind its back."""
    why = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
    return PermanentError(
        f"what answers at {address.url} is not trusted: {why}",
        hint="name its CA with --ca, and the server by a name in its certificate with --server",
    )


def _path(path: str, **query: Any) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _environment(name: str) -> str:
    return f"/v1/environments/{_encoded(name)}"


def _module_path(name: str, module: str | None, verb: str) -> str:
    which = f"/{_encoded(module)}" if module is not None else ""
    return f"{_environment(name)}/modules{which}/{verb}"


def _encoded(name: str) -> str:
    # A name of dots only would be taken for a step in the path by whatever stands between.
    return quote(name, safe="").replace(".", "%2E") if set(name) == {"."} else quote(name, safe="")


def _decoded(content: bytes, address: Address) -> Json:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise PermanentError(f"what answers at {address.url} does not speak JSON as a reconciler does")
    return value


def _error(status: int, value: Json) -> ReconcilerError:
    """The error that the daemon told of, as one of ours."""
    detail, hint = str(value.get("detail", f"status {status}")), value.get("hint")
    kind = str(value.get("type", "")).rpartition(":")[2]
    rows = value.get("problems")
    if status == 422 and isinstance(rows, list) and rows:
        known = {"message", "file", "line", "column", "path", "hint"}
        problems = [Problem(**{key: row[key] for key in known & set(row)}) for row in rows]
        return InvalidInput(problems)
    if status == 401:
        hint = "set RECONCILER_TOKEN to a token of the daemon's settings"
    chosen: type[ReconcilerError] = {
        404: NotFound,
        408: TemporaryError,
        409: Conflict,
        429: TemporaryError,
        503: TemporaryError,
        504: TemporaryError,
    }.get(status, PermanentError)
    return (Refused if kind == "refused" else chosen)(detail, hint=hint)
