"""The builder: a page on this machine on which people write connector files and see what the API answers.

`page` draws it; everything else here is what the page shows and does, without a browser.
"""
