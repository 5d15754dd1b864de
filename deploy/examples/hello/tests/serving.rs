//! The program as it runs: connections are kept, and SIGTERM lets open requests end.

#[cfg(test)]
mod tests {
    //! Each test has a server of its own on a port that the kernel chose.

    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    struct Server {
        child: Child,
        address: String,
    }

    impl Server {
        fn start() -> Self {
            let mut child = Command::new(env!("CARGO_BIN_EXE_hello"))
                .env("PORT", "0")
                .env("MESH_SLOT", "hello/web/1")
                .env("MESH_NODE", "a")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let port = line.trim().rsplit(':').next().unwrap();
            Self { child, address: format!("127.0.0.1:{port}") }
        }

        fn connect(&self) -> Client {
            let stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Client { from: BufReader::new(stream) }
        }

        fn terminate(&self) {
            kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        }

        fn health(&self) -> ExitStatus {
            let port = self.address.rsplit(':').next().unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
            command.arg("health").env("PORT", port).stderr(Stdio::null()).status().unwrap()
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            // It may have ended already, which is fine.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }

    struct Client {
        from: BufReader<TcpStream>,
    }

    impl Client {
        fn send(&mut self, request: &str) {
            self.from.get_mut().write_all(request.as_bytes()).unwrap();
        }

        /// The head and the text of the next response.
        fn receive(&mut self) -> (String, String) {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(self.from.read_line(&mut head).unwrap() > 0, "closed after {head:?}");
            }
            let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let mut body = vec![0; len.parse().unwrap()];
            self.from.read_exact(&mut body).unwrap();
            (head, String::from_utf8(body).unwrap())
        }

        fn get(&mut self, path: &str) -> (String, String) {
            self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            self.receive()
        }

        fn is_closed(&mut self) -> bool {
            matches!(self.from.fill_buf(), Ok([]) | Err(_))
        }
    }

    #[test]
    fn one_connection_serves_many_requests() {
        let server = Server::start();
        let mut client = server.connect();
        for _ in 0..3 {
            let (head, body) = client.get("/");
            assert!(
                head.starts_with("HTTP/1.1 200 OK\r\n")
                    && head.contains("Connection: keep-alive\r\n")
            );
            assert!(body.starts_with("hello from hello/web/1 on a ("), "{body}");
        }
        client.send(
            "POST /any HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyGET /healthz HTTP/1.1\r\n\r\n",
        );
        assert!(client.receive().1.starts_with("hello"));
        assert_eq!(client.receive().1, "ok\n");
        client.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(client.receive().0.contains("Connection: close\r\n"));
        assert!(client.is_closed());
    }

    #[test]
    fn what_is_no_request_gets_an_answer_and_a_closed_connection() {
        let server = Server::start();
        let mut client = server.connect();
        client.send("nonsense\r\n\r\n");
        assert!(client.receive().0.starts_with("HTTP/1.1 400 "));
        assert!(client.is_closed());
    }

    #[test]
    fn more_silent_connections_than_threads_do_not_block_the_next() {
        let server = Server::start();
        let silent: Vec<Client> = (0..100).map(|_| server.connect()).collect();
        assert_eq!(server.connect().get("/healthz").1, "ok\n");
        drop(silent);
    }

    #[test]
    fn the_health_check_tells_a_running_server_from_a_dead_one() {
        let mut server = Server::start();
        assert_eq!(server.health().code(), Some(0));
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        assert_eq!(server.health().code(), Some(1));
    }

    #[test]
    fn it_ends_with_the_code_that_is_asked_for_and_eats_memory() {
        let mut server = Server::start();
        assert_eq!(server.connect().get("/eat?mb=3").1, "has eaten 3 MiB\n");
        assert_eq!(server.connect().get("/eat?mb=2").1, "has eaten 5 MiB\n");
        assert_eq!(server.connect().get("/exit?code=7").1, "exits with 7\n");
        assert_eq!(server.child.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn sigterm_lets_an_open_request_end_and_silent_connections_go() {
        let mut server = Server::start();
        let (mut open, mut silent) = (server.connect(), server.connect());
        silent.get("/");
        open.send("GET /slow?ms=700 HTTP/1.1\r\n\r\n");
        // The request has arrived once another one, sent later, was answered.
        server.connect().get("/");
        let start = Instant::now();
        server.terminate();
        assert!(silent.is_closed());
        assert!(TcpStream::connect(&server.address).is_err(), "accepts no more");
        let (head, body) = open.receive();
        assert_eq!(body, "waited 700 ms\n");
        assert!(head.contains("Connection: close\r\n"));
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn sigterm_does_not_wait_for_ever() {
        let mut server = Server::start();
        let mut open = server.connect();
        open.send("GET /slow?ms=60000 HTTP/1.1\r\n\r\n");
        server.connect().get("/");
        let start = Instant::now();
        server.terminate();
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(4));
    }
}
