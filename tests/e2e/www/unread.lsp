<?lsp response:senderror(403, "no body <wanted>") ?>
