-- Small answers over connections that stay.
dofile(os.getenv("WRK_RESULT"))
