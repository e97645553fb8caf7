<?lsp print(response:include "loop.lsp") ?>
