"""What the tests share: the guard over the host, the podium command, images and plugin distributions."""
