"""Users of pages from a table or JSON (ba.create.jsonuser), with passwords or their hashes, and what their roles may do."""

import hashlib
import subprocess

import harness
import web


def ha1(name, realm, password):
    return hashlib.md5(f"{name}:{realm}:{password}".encode()).hexdigest()


# The family of the documents.
PRELOAD = f"""
users = ba.create.jsonuser()
rights = users:authorizer()
other = ba.create.jsonuser()
hashed = ba.create.authuser(function(name)
  if name == "anna" then return {{"{ha1('anna', 'place', 'secret').upper()}"}}, 3, false, 60 end
end)

assert(users:set {{
  guest = {{pwd = "guest", roles = {{"guest"}}, maxusers = 100}}, kids = {{pwd = "kids", roles = {{"guest", "family"}}}},
  dad = {{pwd = {{"{ha1('dad', 'Barracuda Server', 'dad')}"}}, roles = {{"guest", "family", "dad"}}, recycle = true, inactive = 3600}},
}})
assert(rights:set {{
  Guest = {{urls = {{"/*"}}, methods = {{"GET"}}, roles = {{"guest"}}}},
  FamilyPost = {{urls = {{"/*", "/family/*"}}, methods = {{"POST"}}, roles = {{"dad"}}}},
  FamilyGet = {{urls = {{"/family/*"}}, methods = {{"GET"}}, roles = {{"family"}}}},
  Kids = {{urls = {{"/family/kids/*"}}, methods = {{"POST"}}, roles = {{"family"}}}},
  One = {{urls = {{"/family/all.txt"}}, methods = {{"GET"}}, roles = {{"guest"}}}},
}})
assert(other:set '{{"joe": {{"pwd": ["{ha1('joe', 'place', 'pw')}"], "roles": [], "inactive": 100}}, "kim": {{"pwd": "k", "roles": []}}}}')

local function guarded(name, users, options, rights)
  local place = ba.create.dir(name)
  place:setauth(ba.create.authenticator(users, options), rights)
  place:setfunc(function(_ENV, path) print(path, request:session() and request:session():maxinactiveinterval(), request:user()) end)
  dir:insert(place)
end
guarded("fs", users, {{type = "basic"}}, rights)
guarded("digest", other, {{type = "digest", realm = "place"}})
guarded("basic", other, {{type = "basic", realm = "place"}})
guarded("form", other, {{type = "form", realm = "place"}})
guarded("hashed", hashed, {{type = "digest", realm = "place"}})
guarded("plain", users, nil)
"""

PAGES = {
    ".preload": PRELOAD,
    "wrong.lsp": """<?lsp
      local function try(what, given) print(app[what]:set(given)) end
      local roles = {}
      try("users", nil) try("users", "{") try("users", {x = 1}) try("users", {{pwd = "x", roles = roles}})
      try("users", {x = {pwd = 1, roles = roles}}) try("users", {x = {pwd = {"short"}, roles = roles}}) try("users", {x = {pwd = "x"}})
      try("users", {x = {pwd = "x", roles = {1}}}) try("users", {x = {pwd = "x", roles = roles, inactive = "soon"}})
      try("rights", {x = {}}) try("rights", '{"x": {"urls": "/", "methods": [], "roles": []}}')
    ?>""",
    "in.lsp": """<?lsp
      request:session(true).onterminate = function() app.ended = (app.ended or 0) + 1 end
      request:login(request:data "name")
      print(request:session():user())
    ?>""",
    "out.lsp": "<?lsp print(request:logout(request:data 'all' ~= nil), request:logout()) print(app.ended) ?>",
    "who.lsp": "<?lsp local s = request:session() if s then print(s:user()) else print(s) end ?>",
    "raise.lsp": "<?lsp local s = request:session(true) print(s:user()) s.onterminate = function() error 'in the end' end s:terminate() ?>",
    "pwd.lsp": """<?lsp
      print(app.users:getpwd "kids", app.users:getpwd "nobody", app.hashed:getpwd "anna"[1], select(4, app.hashed:getpwd "anna"))
      print(ba.create.authuser(function() return true end):getpwd "x")
    ?>""",
    "change.lsp": """<?lsp
      print(app.users:set '{"new": {"pwd": "n", "roles": ["guest"]}}', app.rights:casesensitive(false), app.rights:casesensitive())
    ?>""",
}


class UsersTest(web.Client):
    def setUp(self):
        super().setUp()
        self.write_app(PAGES)
        self.port = harness.free_port()
        self.daemon = self.service(f'service "www" {{ app = "www", listen = "127.0.0.1:{self.port}" }}\n', [self.port])

    def digest(self, path, user):
        run = subprocess.run([self.need("curl"), "-sS", "--max-time", "60", "--digest", "-u", user, "-w", "[%{http_code}]",
                              f"http://127.0.0.1:{self.port}{path}"], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def test_rights(self):
        for method, path, may in (("GET", "", "guest kids dad"), ("GET", "x", "guest kids dad"), ("POST", "x", "dad"), ("PUT", "x", ""),
                                  ("GET", "family/x", "kids dad"), ("GET", "family", "kids dad"), ("POST", "family/x", "dad"),
                                  ("GET", "family/kids/x", "kids dad"), ("POST", "family/kids/x", "kids dad"),
                                  ("GET", "family/all.txt", "guest kids dad"), ("GET", "family/all.txt2", "kids dad"),
                                  ("GET", "Family/x", "guest kids dad")):
            for name in ("guest", "kids", "dad"):
                status = self.get(f"/fs/{path}", method=method, body=b"" if method != "GET" else None, user=f"{name}:{name}")[0]
                self.assertEqual(status, 200 if name in may.split() else 403, (method, path, name))
        self.assertEqual(self.get("/fs/x", user="dad:wrong")[0], 401)
        self.assertEqual(self.get("/fs/x", user="nobody:x")[0], 401)
        self.assertEqual(self.text("/change.lsp"), "true\tfalse\tfalse\n")
        self.assertEqual(self.get("/fs/x", user="guest:guest")[0], 401, "gone")
        self.assertEqual(self.get("/fs/x", user="new:n")[0], 200)
        self.assertEqual(self.get("/fs/Family/x", user="new:n")[0], 403, "case counts no more")

    def test_hashes(self):
        """Basic, Digest and the form know a user by the hash of his password."""
        self.assertEqual(self.text("/basic/x", user="joe:pw"), "x\tnil\tjoe\tpw\tbasic\n")
        self.assertEqual(self.get("/basic/x", user=f"joe:{ha1('joe', 'place', 'pw')}")[0], 401)
        for user, status in (("joe:pw", 200), ("kim:k", 200), ("joe:wrong", 401), (f"joe:{ha1('joe', 'place', 'pw')}", 401), ("ann:x", 401)):
            self.assertIn(f"[{status}]", self.digest("/digest/x", user), user)
        _, headers, _ = self.get("/digest/x")
        self.assertEqual(len(headers.get_all("WWW-Authenticate")), 1, "an HA1 is of MD5: nothing else is offered")
        # A function that gives hashes: known from the first of them on.
        self.assertEqual(len(self.get("/hashed/x")[1].get_all("WWW-Authenticate")), 2)
        for user, status in (("anna:secret", 200), ("anna:secret", 200), ("anna:x", 401), ("bert:secret", 401)):
            self.assertIn(f"[{status}]", self.digest("/hashed/x", user), user)
        for user in ("anna", "bert"):  # a wrong answer does not tell who has a hash
            wrong = (f'Digest username="{user}", realm="place", nonce="x", uri="/hashed/x", response="{"0" * 64}", cnonce="c", nc=00000001, '
                     'qop=auth, algorithm=SHA-256')
            _, headers, _ = self.get("/hashed/x", headers={"Authorization": wrong})
            self.assertRegex(headers["WWW-Authenticate"], "algorithm=MD5.*stale=true", user)
        self.assertIn("[200]", self.digest("/plain/x", "kids:kids"))

    def test_the_form(self):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        status, _, body = self.get("/form/x", method="POST", body=b"ba_username=joe&ba_password=wrong", headers=form)
        self.assertIn(b"Wrong name or password", body)
        status, headers, _ = self.get("/form/x", method="POST", body=b"ba_username=joe&ba_password=pw", headers=form)
        self.assertEqual(status, 303)
        cookie = {"Cookie": headers["Set-Cookie"].split(";")[0]}
        self.assertEqual(self.text("/form/x", headers=cookie), "x\t100\tjoe\tnil\tform\n")

    def test_sessions_of_a_user(self):
        def log_in(name):
            _, headers, body = self.get(f"/in.lsp?name={name}")
            self.assertEqual(body.decode(), f"{name}\tform\n")
            return {"Cookie": headers.get_all("Set-Cookie")[-1].split(";")[0]}

        ann, also_ann, bob = log_in("ann"), log_in("ann"), log_in("bob")
        self.assertEqual(self.text("/out.lsp"), "false\tfalse\nnil\n", "no session has ended with a login")
        self.assertEqual(self.text("/out.lsp?all=1", headers=ann), "true\tfalse\n2\n")
        self.assertEqual([self.text("/who.lsp", headers=h) for h in (ann, also_ann, bob)], ["nil\n", "nil\n", "bob\tform\n"])
        self.assertEqual(self.text("/out.lsp", headers=bob), "true\tfalse\n3\n")
        self.assertEqual(self.text("/raise.lsp"), "false\n")
        self.daemon.expect("in the end")
        self.assertEqual(self.text("/pwd.lsp"), f"kids\tnil\t{ha1('anna', 'place', 'secret').upper()}\t60\nnil\n")

    def test_what_is_wrong(self):
        got = self.text("/wrong.lsp").strip().split("\n")
        self.assertEqual(len(got), 11)
        for line, what in zip(got, ("a table or its JSON expected", "", "x: a table expected", "1: a name expected", "x: pwd: a password, or",
                                    "x: pwd: ", "x: roles: a list of names expected", "x: roles: ", "x: inactive: seconds expected",
                                    "x: urls: a list expected", "x: urls: ")):
            self.assertTrue(line.startswith("nil\t" + what), line)
        self.assertEqual(self.get("/fs/x", user="guest:guest")[0], 200, "nothing has changed")


if __name__ == "__main__":
    harness.main()
