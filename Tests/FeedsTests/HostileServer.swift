import Foundation
import System

/// A web server with one path for each kind of answer a feed's server can give. It is Python's, so that its idea of
/// HTTP is not ours. It ends when this process does.
final class HostileServer: Sendable {
    let base: String
    private let input: Pipe
    private let process: Process

    /// - Parameters:
    ///   - document: the file that `/feed` serves.
    ///   - certificate: with `key`, PEM files that make it an https server.
    init(document: String, certificate: String? = nil, key: String? = nil) throws {
        process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", "-c", Self.script, document] + [certificate, key].compactMap { $0 }
        input = Pipe()
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        var line: [UInt8] = []
        while line.last != 10, let byte = try output.fileHandleForReading.read(upToCount: 1)?.first {
            line.append(byte)
        }
        let port = String(decoding: line, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        base = "http\(certificate == nil ? "" : "s")://127.0.0.1:\(port)"
    }

    deinit {
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    func url(_ path: String) -> String { base + path }

    /// The headers of all requests for a path so far, one line each: `If-None-Match|If-Modified-Since|User-Agent`.
    func requests(_ path: String) throws -> [String] {
        try text("/log").split(separator: "\n")
            .filter { $0.hasPrefix(path + " ") }.map { String($0.dropFirst(path.count + 1)) }
    }

    /// The Authorization header, or "-", of all requests so far with the host that each named.
    func authorizations() throws -> [String] {
        try text("/authorizations").split(separator: "\n").map { String($0) }
    }

    private func text(_ path: String) throws -> String {
        let request = HTTPClient.Request(url: url(path), headers: [], limit: 1 << 24, timeout: .seconds(60))
        return String(decoding: try HTTPClient(userAgent: "test").get(request).body, as: UTF8.self)
    }

    private static let script = """
        import sys, os, hashlib, gzip, threading, zlib
        from http.server import ThreadingHTTPServer, BaseHTTPRequestHandler
        log, authorizations, ended = [], [], threading.Event()
        class H(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def log_message(self, *a): pass
            def head(self, status, **headers):
                self.send_response(status)
                for k, v in headers.items(): self.send_header(k.replace('_', '-'), v)
                self.end_headers()
            def body(self, status, data, **headers):
                self.head(status, Content_Length=str(len(data)), **headers)
                self.wfile.write(data)
            def do_GET(self):
                p = self.path
                if p == '/authorizations': return self.body(200, '\\n'.join(authorizations).encode())
                if p == '/log': return self.body(200, '\\n'.join(log).encode())
                g = lambda n: self.headers.get(n, '-')
                authorizations.append(g('Host').split(':')[0] + ' ' + g('Authorization'))
                log.append(p + ' ' + g('If-None-Match') + '|' + g('If-Modified-Since') + '|' + g('User-Agent'))
                try: self.answer(p)
                except (BrokenPipeError, ConnectionResetError): self.close_connection = True
            def answer(self, p):
                data = open(sys.argv[1], 'rb').read()
                tag = 'W/"' + hashlib.sha1(data).hexdigest() + '"'
                if p.startswith('/feed'):
                    if self.headers.get('If-None-Match') == tag: return self.head(304, ETag=tag)
                    return self.body(200, data, ETag=tag, Last_Modified='Fri, 05 Sep 2025 09:49:57 GMT')
                if p.startswith('/private') and 'Authorization' not in self.headers:
                    return self.body(401, b'', WWW_Authenticate='Basic realm="x"')
                if p.startswith('/private/moved'): return self.body(301, b'', Location='/private/feed?token=t0ken')
                if p.startswith('/private/away'):
                    return self.body(302, b'', Location='http://localhost:%d/plain?token=t0ken' % server.server_address[1])
                if p.startswith('/private/eve'):
                    return self.body(302, b'', Location='http://eve:s3cret@127.0.0.1:%d/plain' % server.server_address[1])
                if p.startswith('/private/loop'): return self.body(302, b'', Location='/private/loop?token=t0ken')
                if p.startswith('/private/ftp'): return self.body(302, b'', Location='ftp://u:s3cret@h/x?token=t0ken')
                if p.startswith('/private/html'): return self.body(200, b'<html>no</html>')
                if p.startswith('/private/404'): return self.body(404, b'')
                if p.startswith('/private/slow'): ended.wait(); return
                if p.startswith('/private/big'): self.head(200, Content_Length=str(100 << 20)); return
                if p.startswith('/private'): return self.body(200, data)
                if p.startswith('/charset/'): return self.body(200, data, Content_Type='text/xml; charset="%s"' % p[9:])
                if p.startswith('/plain'): return self.body(200, data)
                if p == '/loop': return self.body(302, b'', Location='/loop/again')
                if p == '/loop/again': return self.body(302, b'', Location='/loop')
                if p.startswith('/chain/'):
                    n = int(p[7:])
                    return self.body(302, b'', Location='/chain/%d' % (n - 1) if n > 1 else '/feed')
                if p == '/gone': return self.body(410, b'')
                if p == '/304': return self.head(304, ETag='"b"') if 'If-None-Match' in self.headers else self.body(200, data, ETag='"a"')
                if p == '/tags': return self.body(200, data, ETag='"%d"' % len(log))
                if p == '/moved/below': return self.body(301, b'', Location='/plain/below/feed')
                if p == '/moved': return self.body(301, b'', Location='/feed')
                if p == '/moved/twice': return self.body(308, b'', Location='/moved')
                if p == '/moved/away': return self.body(301, b'', Location='/chain/1')
                if p == '/away/moved': return self.body(307, b'', Location='/moved')
                if p == '/eve':
                    return self.body(302, b'', Location='http://eve:s3cret@127.0.0.1:%d/plain' % server.server_address[1])
                if p == '/tofile': return self.body(302, b'', Location='file:///etc/passwd')
                if p == '/nowhere': return self.body(302, b'')
                if p == '/500': return self.body(500, b'x' * 100000)
                if p == '/404': return self.body(404, b'<html>no</html>')
                if p == '/503': return self.body(503, b'', Retry_After='1234')
                if p == '/html': return self.body(200, b'<!DOCTYPE html><html><body>Log in</body></html>')
                if p == '/empty': return self.body(200, b'')
                if p == '/gzip': return self.body(200, gzip.compress(data), Content_Encoding='gzip')
                if p == '/gzip/cut': return self.body(200, gzip.compress(data)[:-20], Content_Encoding='gzip')
                if p == '/gzip/damaged': return self.body(200, gzip.compress(data)[:-8] + bytes(8), Content_Encoding='gzip')
                if p == '/refused/big': self.head(404, Content_Length=str(100 << 20)); return
                self.close_connection = True
                if p == '/headers':
                    self.send_response(200)
                    for i in range(40): self.send_header('X-%d' % i, 'x' * 8000)
                    return self.end_headers()
                if p == '/drip':
                    self.head(200, Content_Length=str(len(data)))
                    for byte in data:
                        self.wfile.write(bytes([byte]))
                        if ended.wait(0.02): return
                    return
                if p == '/cut': return self.body(200, data[:-20])
                if p == '/short':
                    self.head(200, Content_Length=str(len(data) + 10000)); self.wfile.write(data); return
                if p == '/huge': self.head(200, Content_Length=str(100 << 20)); self.wfile.write(data); return
                if p == '/bomb':
                    self.head(200, Content_Encoding='gzip', Connection='close')
                    c = zlib.compressobj(9, zlib.DEFLATED, 31)
                    for i in range(100): self.wfile.write(c.compress(bytes(1 << 20)))
                    self.wfile.write(c.flush()); return
                if p in ('/endless', '/500/endless'):
                    self.head(200 if p == '/endless' else 500, Connection='close')
                    for i in range(1600): self.wfile.write(b' ' * 65536)
                    ended.wait(); return
                if p == '/slow': self.head(200, Connection='close'); self.wfile.write(data[:100]); ended.wait(); return
                if p.startswith('/silent'): ended.wait(); return
                if p == '/garbage': self.wfile.write(b'SSH-2.0-OpenSSH\\r\\n\\r\\n'); return
                self.body(404, b'')
        server = ThreadingHTTPServer(('127.0.0.1', 0), H)
        server.daemon_threads = True
        if len(sys.argv) > 2:
            import ssl
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(sys.argv[2], sys.argv[3])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        ended.set()
        os._exit(0)
        """
}
