<!DOCTYPE html>
<?lsp -- a comment that ends the block ?>
<title><?lsp= require"greeting".text(request:data"name" or "you") ?></title>
<ul>
<?lsp for i = 1, 3 do ?><li><?lsp=i?></li><?lsp end ?>
</ul>
<?lsp
app.visits = app.visits + 1
page.count = (page.count or 0) + 1
local host = request:header "host"
local ip, port = request:sockname()
?>
<p id="state"><?lsp= app.visits ?> <?lsp= page.count ?> <?lsp= pathname ?> <?lsp=request:url()?> <?lsp= host == ip .. ":" .. port ?></p>
<?lsp if request:data "stop" == "" then print "stopped" return end ?>
<?lsp print("printed", nil, 1.5) ?>
