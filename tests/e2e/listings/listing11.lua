local s = ba.socket.connect("google.com",443,{shark=ba.sharkclient()});
