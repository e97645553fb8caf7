-- What `./dev run` starts: a proxy in front of an origin, both served by scripts in this one daemon, and a page with live
-- WebSockets. Try curl http://127.0.0.1:8080/, a browser on http://127.0.0.1:8084/, and
-- cosockctl -s ${XDG_RUNTIME_DIR:-/tmp}/cosockd-demo.sock status.

script_dir = "../scripts"
library_dir = "../scripts/lib"
data_dir = "."
control_socket = env("XDG_RUNTIME_DIR", "/tmp") .. "/cosockd-demo.sock"

service "origin" {
    script = "origin.lua",
    listen = { "127.0.0.1:8081" },
}

service "proxy" {
    script = "proxy.lua",
    listen = { "127.0.0.1:8080", "[::1]:8080" },
    upstreams = { "127.0.0.1:8081" },
}

service "pages" {
    app = "demo",
    listen = "127.0.0.1:8084",
    show_errors = true,
}

service "bridge" { -- of that page, to the echo service
    script = "wsbridge.lua",
    listen = "127.0.0.1:8083",
    target = "127.0.0.1:8082",
}

service "echo" {
    script = "echo.lua",
    listen = "127.0.0.1:8082",
}
