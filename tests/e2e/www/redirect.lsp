<?lsp response:sendredirect(request:data "to" or "/index.lsp") print "never seen" ?>
