"""What goes into an image, as values: plan, kinds of server, rendering."""
