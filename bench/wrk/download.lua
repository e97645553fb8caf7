-- Large answers over connections that stay.
dofile(os.getenv("WRK_RESULT"))
wrk.path = "/large"
