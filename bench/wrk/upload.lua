-- Large requests over connections that stay.
dofile(os.getenv("WRK_RESULT"))
wrk.method = "POST"
wrk.path = "/take"
wrk.body = string.rep("0123456789abcdef", 65536)
