# SPDX-License-Identifier: MIT
"""A proxy between a mount and a service (HTTP/1.1), on which tests play what networks and services do to requests.

    proxy = FaultyProxy(port_of_the_service)         # proxy.url is what the mount is told
    proxy.on("GET .*big", cut_answer(1000), times=2)   # twice, of the requests whose "METHOD target" begins so
    proxy.go_away(), proxy.come_back()                 # nobody listens; what was connected is reset
"""
import re
import socket
import struct
import threading


class Gone(Exception):
    """One of the two sides is not there any more."""


class Request:
    def __init__(self, head):
        self.head = head
        self.method, self.target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        self.n_body = header_number(head, b"content-length") or 0
        self.line = f"{self.method} {self.target}"


def read_head(reader):
    """A head with its empty line; b"" at the end of the connection."""
    lines = []
    while not lines or lines[-1] != b"\r\n":
        lines.append(reader.readline())
        if not lines[-1]:
            return b""
    return b"".join(lines)


def header_number(head, name):
    found = re.search(rb"(?mi)^%s: *(\d+)\r$" % name, head)
    return int(found.group(1)) if found else None


def copy_bytes(reader, n, send):
    """Hands n bytes on; None: all there are."""
    while n != 0:
        data = reader.read1(65536 if n is None else min(n, 65536))
        if not data:
            if n is None:
                return
            raise Gone
        send(data)
        n = None if n is None else n - len(data)


class Connection:
    """One of the mount's, with one to the service for what is passed on."""

    def __init__(self, proxy, client):
        self.proxy, self.client = proxy, client
        self.reader = client.makefile("rb")
        self.service = socket.create_connection(("127.0.0.1", proxy.service_port))
        self.answers = self.service.makefile("rb")

    def serve(self):
        try:
            while head := read_head(self.reader):
                request = Request(head)
                if re.search(rb"(?mi)^expect: *100-continue\r$", head):
                    self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.proxy.act_on(request)(self, request)
        except (Gone, OSError, ValueError):  # ValueError: closed meanwhile
            pass
        finally:
            self.reset()

    def reset(self):
        for side in (self.client, self.service):
            try:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            side.close()

    def take_body(self, request, n=None, send=lambda data: None):
        def count(data):
            self.proxy.n_body_bytes += len(data)
            send(data)
        copy_bytes(self.reader, request.n_body if n is None else min(n, request.n_body), count)

    def pass_on(self, request, n_body=None):
        head = re.sub(rb"(?mi)^expect: .*\r\n", b"", request.head)
        self.service.sendall(self.proxy.for_service(head))
        self.take_body(request, n_body, self.service.sendall)

    def answer_head(self):
        while head := read_head(self.answers):
            if not head.startswith(b"HTTP/1.1 1"):
                return self.proxy.for_client(head)
        raise Gone

    def pass_back(self, request, head, send):
        """The body of an answer whose head has been sent."""
        if request.method == "HEAD" or head[9:12] in (b"204", b"304"):
            return
        if re.search(rb"(?mi)^transfer-encoding: *chunked\r$", head):
            n = -1
            while n != 0:
                line = self.answers.readline()
                n = int(line, 16)
                send(line)
                copy_bytes(self.answers, n + 2, send)
            return
        n = header_number(head, b"content-length")
        copy_bytes(self.answers, n, send)
        if n is None:
            raise Gone


# ---- what may be done to a request

def transparent(connection, request):
    connection.pass_on(request)
    head = connection.answer_head()
    connection.client.sendall(head)
    connection.pass_back(request, head, connection.client.sendall)


def answer(status, body="", **headers):
    """The service does not see it: this is the answer."""
    text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    reply = f"HTTP/1.1 {status} Because\r\n{text}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()

    def act(connection, request):
        connection.take_body(request)
        connection.client.sendall(reply if request.method != "HEAD" else reply[:len(reply) - len(body.encode())])
    return act


def cut_request(n, then=lambda: None):
    """After n bytes of its body the connection is reset."""
    def act(connection, request):
        connection.pass_on(request, n)
        then()
        raise Gone
    return act


def cut_answer(n):
    """The head announces all of the body; after n bytes the connection ends."""
    def act(connection, request):
        connection.pass_on(request)
        head = connection.answer_head()
        connection.client.sendall(head)
        copy_bytes(connection.answers, n, connection.client.sendall)
        raise Gone
    return act


def alter_answer(at):
    """Another byte is at that place of the object, in the answers that have it."""
    def act(connection, request):
        connection.pass_on(request)
        head = connection.answer_head()
        begin = re.search(rb"(?mi)^content-range: *bytes (\d+)-", head)
        left = at - int(begin[1]) if begin else -1
        connection.client.sendall(head)

        def send(data):
            nonlocal left
            if 0 <= left < len(data):
                data = data[:left] + bytes([data[left] ^ 1]) + data[left + 1:]
            left -= len(data)
            connection.client.sendall(data)
        connection.pass_back(request, head, send)
    return act


def drip(connection, request):
    """A byte of the answer's body a second."""
    def slowly(data):
        for byte in data:
            if connection.proxy.over.wait(1):
                raise Gone
            connection.client.sendall(bytes([byte]))
    connection.pass_on(request)
    head = connection.answer_head()
    connection.client.sendall(head)
    connection.pass_back(request, head, slowly)


def lose_answer(connection, request):
    """The service does it, and nobody is told."""
    connection.pass_on(request)
    connection.answer_head()
    raise Gone


class Hold:
    """Requests wait here until let_go(); `n` have come so far."""

    def __init__(self, proxy):
        self.n = 0
        self.gate = threading.Event()
        proxy.holds.append(self)

    def let_go(self):
        self.gate.set()

    def __call__(self, connection, request):
        self.n += 1
        self.gate.wait()
        transparent(connection, request)


class FaultyProxy:
    def __init__(self, service_port, keeps_host=True):
        self.service_port = service_port
        self.keeps_host = keeps_host  # it is signed
        self.lock = threading.Lock()
        self.rules = []   # [pattern, act, times left or None], the first that fits counts
        self.lines = []   # of all requests
        self.n_body_bytes = 0
        self.over = threading.Event()
        self.holds = []
        self.connections = set()
        self.port = 0
        self.come_back()
        self.url = f"http://127.0.0.1:{self.port}"

    def on(self, pattern, act, times=None):
        with self.lock:
            self.rules.append([re.compile(pattern), act, times])

    def well(self):
        """No more faults."""
        with self.lock:
            self.rules.clear()

    def act_on(self, request):
        with self.lock:
            self.lines.append(request.line)
            for rule in self.rules:
                if rule[0].match(request.line) and rule[2] != 0:
                    rule[2] = rule[2] and rule[2] - 1
                    return rule[1]
        return transparent

    def count(self, pattern):
        with self.lock:
            return sum(bool(re.match(pattern, line)) for line in self.lines)

    # A service that names itself in a header is to be asked through here.
    def for_client(self, head):
        return re.sub(rb"(?mi)^(location: *http://127\.0\.0\.1:)%d" % self.service_port, rb"\g<1>%d" % self.port, head)

    def for_service(self, head):
        return head if self.keeps_host else \
            re.sub(rb"(?mi)^(host: *127\.0\.0\.1:)%d" % self.port, rb"\g<1>%d" % self.service_port, head)

    def come_back(self):
        listener = self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                connection = Connection(self, listener.accept()[0])
            except OSError:
                return
            with self.lock:
                is_gone = listener is not self.listener
                self.connections.add(connection)
            if is_gone:
                connection.reset()
            threading.Thread(target=connection.serve, daemon=True).start()

    def go_away(self):
        with self.lock:
            listener, self.listener = self.listener, None
            gone, self.connections = self.connections, set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in gone:
            connection.reset()

    def close(self):
        self.over.set()
        for hold in self.holds:
            hold.let_go()
        if self.listener:
            self.go_away()
