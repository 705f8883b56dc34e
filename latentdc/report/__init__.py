"""One page that shows what runs and sweeps made: a single HTML file that needs no network.

`latentdc.report.page.write` writes it. All text is untrusted, and jinja2 escapes it; images are
encoded anew; a Content-Security-Policy allows the page's own style and script and nothing else.
"""
