"""The configuration as frozen typed objects, with every default, and nothing else.

Durations are seconds (float), sizes are octets (int). 0 switches a limit or timeout off where
its docstring says so. `load.py` makes these from YAML; the JSON Schema is generated from them.
"""

from dataclasses import dataclass, field
from pathlib import Path

from spooky.config.admission import Admission, BackendLimits, UpstreamAdmission
from spooky.config.dns import Dns
from spooky.config.engine import Engine
from spooky.config.failing import CircuitBreaker, PassiveHealth
from spooky.config.limits import Limits
from spooky.config.rate_limits import RateLimit
from spooky.config.repeats import Hedging, Retries
from spooky.config.routes import Route as Route  # noqa: PLC0414
from spooky.config.routes import Rule


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where one TLS identity is read from: a PEM chain and its key, or a PKCS#12 bundle."""

    server_name: str | None = None
    """A DNS name or `*.` wildcard to serve it for; None: the names in the certificate."""
    cert: Path | None = None
    """A PEM file: the server's own certificate first, then those that certify it."""
    key: Path | None = None
    """A PEM file with the private key (PKCS#8, PKCS#1, SEC1); None: it is in `cert`."""
    pkcs12: Path | None = None
    """A PKCS#12 bundle with chain and key, in place of `cert` and `key`."""
    passphrase_file: Path | None = None
    """A file whose first line opens the encrypted key or the bundle."""


@dataclass(frozen=True, slots=True)
class ListenTls:
    """The TLS of a listener: `default` for clients whose server name matches no other."""

    default: Certificate
    certificates: tuple[Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Listener:
    """One address and port that clients connect to."""

    tls: ListenTls
    """The certificates that it shows; HTTP/3 has no cleartext form."""
    protocol: str = "http3"
    """Only `http3`."""
    address: str = "0.0.0.0"
    """The IP address to bind; `::` takes IPv6 from everywhere."""
    port: int = 443
    """The UDP port to bind."""


@dataclass(frozen=True, slots=True)
class LoadBalancing:
    """How an upstream picks a backend."""

    type: str = "round-robin"
    """`round-robin`, `random`, `least-connections`, `power-of-two` or `ewma`; or, by a hash of
    `key`, `ring-hash`, `rendezvous` or `maglev`. All of them heed the weights."""
    key: str | None = None
    """What is hashed: `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `authority`
    or `cid` (the client's connection). A request that lacks it is taken by its client's address."""
    bound: int | None = None
    """The percentage of its share of the requests in flight with which a backend is full, and
    requests go elsewhere; None: never."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One server behind an upstream. Bare `host:port` is cleartext HTTP/2 (prior knowledge)."""

    id: str
    host: str
    port: int
    tls: bool = False
    weight: int = 100
    """Its share of the requests, against the weights of the others; 0: no new requests."""
    priority: int = 0
    """0: primary. 1 and more: a backup, asked as far as those before it cannot carry the load."""
    zone: str | None = None
    """Where it stands, in a word of the operator's; None: not said."""

    @property
    def address(self) -> str:
        """The address in the form of the configuration file."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}" if self.tls else f"{host}:{self.port}"

    @property
    def identity(self) -> str:
        """What tells it from others, whichever upstreams it is in: scheme, host and port."""
        return self.address if self.tls else f"http://{self.address}"


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How `https://` backends are verified, and how Spooky shows itself to them."""

    verify: bool = True
    """Whether the backend's certificate has to be trusted and for its name."""
    ca: Path | None = None
    """PEM file or folder of trusted authorities; None: the system's store."""
    server_name: str | None = None
    """The name to ask for and to verify; None: the backend's host."""
    client_cert: Path | None = None
    """A PEM chain to show to backends that ask for a certificate (mTLS)."""
    client_key: Path | None = None
    """Its private key; None: it is in `client_cert`."""
    passphrase_file: Path | None = None
    """A file whose first line opens the encrypted key."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Active health checking of an upstream's backends. Some keys belong to some types alone."""

    type: str = "http"
    """What a backend has to do: `http` (answer a request over HTTP/2), `grpc` (say SERVING by
    grpc.health.v1), `tcp` (take a connection), `tls` (complete a handshake) or `command` (a
    program says)."""
    path: str = "/health"
    """What is asked for. For `http`."""
    method: str = "GET"
    """How it is asked for. For `http`."""
    host: str | None = None
    """The authority that is asked for; None: the backend's address. For `http` and `grpc`."""
    status: tuple[tuple[int, int], ...] = ((200, 299),)
    """The statuses of a well backend, from and to. For `http`."""
    body: str | None = None
    """What the content has to have in it; None: it is not looked at. For `http`."""
    body_regex: str | None = None
    """A regular expression (of Python) that has to match somewhere in the content. For `http`."""
    body_bytes: int = 64 * 1024
    """How much of the content is read; what comes after it is not looked at. For `http`."""
    service: str | None = None
    """The service to ask about; None: the server as a whole. For `grpc`."""
    command: tuple[str, ...] = ()
    """The program and its arguments; exit status 0: well. No shell reads it. It has
    SPOOKY_BACKEND_ADDRESS, SPOOKY_BACKEND_PORT and SPOOKY_BACKEND_ID in its environment, runs as
    the keeper's user, and is killed at the timeout with its whole process group. For `command`."""
    port: int | None = None
    """Where to connect to, if not the backend's own port. For all but `command`."""
    interval: float = 5.0
    """From the start of a probe of a backend to that of the next."""
    jitter: float = 0.1
    """The share by which an interval may be shorter by chance, and a cooldown longer, so that
    probes spread out."""
    timeout: float = 1.0
    """For a whole probe; at most `interval`."""
    failure_threshold: int = 3
    """Failures in a row that take a backend out."""
    success_threshold: int = 2
    """Successes in a row that bring it back."""
    cooldown: float = 5.0
    """From the failure that takes it out to the first probe that may bring it back; each that
    fails doubles it. 0: it is probed at `interval` as ever."""
    max_cooldown: float = 60.0
    """What the doubling stops at."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an exchange may wait for a backend."""

    connect: float = 5.0
    """For TCP, TLS and the HTTP/2 preface together."""
    response_header: float = 60.0
    """From the end of the request to the response's head; 0: no limit."""
    idle: float = 60.0
    """Without an octet either way once the exchange has begun; 0: no limit."""
    total: float = 0.0
    """For the whole exchange; 0: no limit."""
    queue: float = 5.0
    """Waiting for a connection with a free stream."""
    deadline_header: str | None = None
    """A request field with the milliseconds that its client is ready to wait; beyond them: 504.
    Backends are told in it what is left. None: there is none."""


@dataclass(frozen=True, slots=True)
class SessionPersistence:
    """Keeps a client at the backend that it had first."""

    type: str = "cookie"
    """Only `cookie`: a signed one that Spooky sets and keeps from the backends."""
    name: str | None = None
    """The cookie's name; None: `spooky-` and eight digits of its own for each upstream."""
    timeout: float = 3600.0
    """After the last request; it is renewed when half of it is over. 0: no end but the client's."""
    path: str = "/"
    """Which requests the client sends it with."""
    same_site: str = "lax"
    """`lax`, `strict` or `none`: whether it comes with requests that other sites cause."""
    when_gone: str = "pick-another"
    """What becomes of a request whose backend is gone or not well: `pick-another`, or `fail` with
    503."""
    secret_file: Path | None = None
    """What cookies are signed with, to share sessions with other instances: a file of at least 32
    octets. None: a key that lasts as long as this instance, reloads and upgrades included."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A named group of backends and the routes that lead to it."""

    name: str
    routes: tuple[Route, ...]
    backends: tuple[Backend, ...]
    """The servers that requests are shared among."""
    load_balancing: LoadBalancing = field(default_factory=LoadBalancing)
    """How a backend is picked for a request."""
    slow_start: float = 0.0
    """In which a backend that was out gets its whole weight again, in steps; 0: at once."""
    panic_threshold: int = 1
    """The percentage of a tier's weight of which less is well when health is ignored in it; 0:
    never."""
    session_persistence: SessionPersistence | None = None
    """Keeps a client at one backend."""
    tls: UpstreamTls = field(default_factory=UpstreamTls)
    """For its `https://` backends."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """How long an exchange may wait for a backend."""
    admission: UpstreamAdmission = field(default_factory=UpstreamAdmission)
    """How much may be in flight in it, and how important its requests are."""
    backend_limits: BackendLimits = field(default_factory=BackendLimits)
    """What each of its backends gets at most."""
    rate_limits: tuple[RateLimit, ...] = ()
    """How many requests may pass, over and above those of the top level."""
    retries: Retries = field(default_factory=Retries)
    """When a request is tried again."""
    hedging: Hedging | None = None
    """When a second try is started beside the first; without it: never."""
    health_check: HealthCheck | None = None
    """Active health checks; none without it."""
    passive_health: PassiveHealth = field(default_factory=PassiveHealth)
    """When a backend that fails requests is kept from them for a while; `off`: never."""
    circuit_breaker: CircuitBreaker | None = None
    """When no requests are sent to a backend, and how it is tried again; None: there is none."""


@dataclass(frozen=True, slots=True)
class Admin:
    """The keeper's HTTP endpoint: `/health` and `/ready`. `port` 0 in the model: switched off."""

    address: str = "127.0.0.1"
    """The IP address to bind."""
    port: int = 9901
    """The TCP port to bind."""


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged, how, and where to. `-` is standard error for `file`, output for `access`."""

    level: str = "info"
    """`debug`, `info`, `warning`, `error` or `off`."""
    format: str = "plain"
    """`plain` or `json`."""
    file: str = "-"
    """Where the log goes: a file, or `-` for standard error."""
    access: str | None = "-"
    """Where a line per request goes; None (`off`): nowhere."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration file, resolved."""

    listen: tuple[Listener, ...]
    """Where clients connect: one listener or a list of them."""
    upstream: tuple[Upstream, ...]
    """Groups of backends, by name, and the requests that each serves."""
    routes: tuple[Rule, ...] = ()
    """Routes that have no upstream of their own: they share requests out, redirect or answer."""
    version: int = 1
    """Of this file's format; only 1."""
    zone: str | None = None
    """Where this instance stands: backends of the same zone come first. None: all are alike."""
    worker_processes: int = 1
    """How many workers there are; `auto`: one for each CPU that Spooky may use."""
    user: str | None = None
    """Whom workers and keeper run as, where the master was started as root."""
    group: str | None = None
    """Their group; None: the main group of `user`."""
    admin: Admin = field(default_factory=Admin)
    """The endpoint for operators; `off`: none."""
    log: Log = field(default_factory=Log)
    """What is logged, how, and where to."""
    limits: Limits = field(default_factory=Limits)
    """Sizes, counts and timeouts that bound what one peer can take."""
    admission: Admission = field(default_factory=Admission)
    """How much may be in flight in all upstreams together."""
    dns: Dns = field(default_factory=Dns)
    """How names of backends are looked up, again and again at their time to live."""
    rate_limits: tuple[RateLimit, ...] = ()
    """How many requests may pass, whichever route takes them."""
    engine: Engine = field(default_factory=Engine)
    """Which implementations of the protocols carry requests."""
    steering: str = "auto"
    """How datagrams reach the worker that owns their connection. `kernel`: by a classic BPF program
    on the sockets; it is an error where none can be attached. `userspace`: handed over between
    workers. `auto`: by the kernel where that can be done."""
    worker_timeout: float = 10.0
    """A worker or keeper whose event loop has stood still for so long is killed and replaced; 0:
    never."""
    watch: bool = False
    """Whether to reload by itself when the file, or a certificate or key that it names, changes."""
    drain_timeout: float = 30.0
    """How long open exchanges may go on after a stop or a reload; 0: not at all."""
    pid: Path = Path("/run/spooky.pid")
    """Where the master writes its process id."""
    control: str | None = None
    """The unix socket for `spooky ctl`, which only the account that started the master may use;
    `auto`: beside the pidfile, with `.sock` in place of its ending; `off`: none. Fixed when the
    master starts."""
