"""Pages fetched before they are wanted.

Whoever reads a call goes through its pages one by one, as if nobody else did. Beside it somebody
goes through the same pages earlier, as far as the answers or the page numbers tell what comes next,
and keeps the answers. An answer is taken where the request is the very one that would be sent;
anything else is thrown away. So what is read ahead can save time and nothing else: not the order of
pages, not what is done about a failure, not a cursor.
"""
