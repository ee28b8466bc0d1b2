"""The steps of a package, one module each; what each would read, whether its record holds, how it is done."""
