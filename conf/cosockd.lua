-- The configuration of cosockd. It is a Lua file: assignments are settings, service blocks say which
-- scripts run. As delivered it changes nothing: every line that is commented out shows a default.
--
-- Besides the settings there are service, include, and env "NAME" (a second argument is the default for
-- a variable that is not set), with Lua's string, table, math, ipairs, pairs, type, tostring, tonumber,
-- select, error and assert. Check with `cosockd -t`, look at the result with `cosockd -T`, put it into
-- effect with `cosockctl reload --wait`; what is marked (restart) takes a restart.
--
-- Times have a unit: "500ms", "30s", "5m", "1h", "1d"; only 0 has none. Sizes are bytes, or "16k",
-- "10M", "1G". Relative paths begin at the folder of this file.

---- the process

-- workers = 1                  -- threads that serve connections; "auto": one per CPU we may use (restart)
-- cells = 1                    -- copies of the scripts per worker, opened as they fill, or "auto" (restart)
-- user = nil                   -- run as this user once everything is bound; start as root (restart)
-- group = nil                  -- run as this group; nil: the user's own (restart)
-- control_socket = "/run/cosockd/control.sock" -- where cosockctl finds the daemon; "": nowhere (restart)
-- stop_timeout = "30s"         -- after SIGTERM: connections may go on for so long; "never": cut none
-- reload_drain_timeout = "never" -- after a reload: connections of the old scripts may go on for so long

---- the log

-- log_level = "info"           -- error, warn, notice, info or debug
-- log_file = nil               -- nil: stderr (the journal); a file is opened again on SIGUSR1 (restart)
-- log_connections = true       -- one line at the end of each connection, level info

---- scripts

-- script_dir = "/usr/share/cosockd/scripts"      -- scripts that are not beside this file
-- library_dir = "/usr/share/cosockd/scripts/lib" -- where require finds the libraries
-- data_dir = "/var/lib/cosockd" -- root of the files that scripts may open
-- lua_memory = "256M"          -- memory that the scripts may use; 0: no limit
-- cpu_budget = "200ms"         -- CPU time a coroutine may burn in one go; 0: no limit

---- connections

-- maxconn = 0                  -- accepted connections at a time; more wait in the backlog; 0: no limit
-- limit_conn = 0               -- ... of one client address; more are closed; 0: no limit
-- sockets_max = 0              -- 0: as many as the limit of open files allows (restart)
-- write_buffer = "128k"        -- unsent bytes of a connection above which a writer waits
-- read_ahead = "128k"          -- unread bytes of a connection above which it is not read
-- flush_timeout = "30s"        -- after close: how long the peer may take to receive the rest
-- drain_timeout = "2s"         -- after that: how long to wait for the peer's end

---- TLS

-- ticket_keys = nil            -- file: keys of session tickets, a line each, 48 bytes in base64, the newest first;
--                              -- nil: random ones that change by themselves

---- services
--
-- A service runs a script; its block is the script's argument (`local service = ...`). The script is
-- looked up beside this file, then in script_dir. maxconn and limit_conn may stand in a service too, for it
-- alone. Any other key is the script's own.
--
-- service "web" {
--     script = "proxy.lua",
--     listen = { "0.0.0.0:80", "[::]:80" },
--     upstreams = { "10.0.0.1:8080", "10.0.0.2:8080" },
-- }
--
-- service "https" {
--     script = "tls.lua",
--     listen = { "0.0.0.0:443", "[::]:443" },
--     upstreams = { "127.0.0.1:80" },
--     tls = { cert = "/etc/ssl/www.pem", key = env("CREDENTIALS_DIRECTORY", "/etc/ssl/private") .. "/www.key" },
-- }
--
-- service "novnc" {            -- WebSockets to TCP
--     script = "wsbridge.lua",
--     listen = ":6080",
--     tokens = { desk1 = "10.0.0.5:5900" }, -- ws://host:6080/websockify?token=desk1
-- }
--
-- service "dns" {
--     script = "udp.lua",
--     listen = { "127.0.0.1:53" },
--     upstreams = { "10.0.0.1:53", "10.0.0.2:53" },
-- }

include "conf.d/*.lua"
