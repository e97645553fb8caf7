discarded <?lsp
response:setheader("X-Gone", "1")
response:reset()
print "kept"
response:abort()
print "not reached"
?>
