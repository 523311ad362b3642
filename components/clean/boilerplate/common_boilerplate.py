"""Built-in boilerplate lines, for corpora in which no navigation is marked.

Plain text files carry no navigation of their own, but pages copied into them often do.
"""

from __future__ import annotations

_PLAIN = """
Skip to main content|Skip to content|Jump to navigation|Toggle navigation|Back to top|Home|Menu
Main menu|Search|Search docs|Search results|Quick search|Go|Index|General Index|Module Index
Site map|Table of Contents|On this page|Contents|In this article|Contents menu|Expand|Collapse all
Show more|Show less|Read more|Read more »|Learn more|See all|View all|Load more|Next|Previous
Next page|Previous page|Next topic|Previous topic|« Previous|Next »|Older posts|Newer posts
Continue reading|Log in|Log out|Sign in|Sign up|Register|Create account|My account
Forgot your password?|Remember me|Subscribe|Subscribe to our newsletter|Enter your email address
Unsubscribe|Follow us|Follow us on Twitter|Share|Share this page|Share on Facebook
Share on Twitter|Share on LinkedIn|Tweet|Like|Pin it|Email this|Print|Print this page|Download PDF
Copy link|Copy to clipboard|Report an issue|Report a bug|Feedback|Was this page helpful?|Yes|No
Thank you for your feedback!|Rate this page|Edit this page|Edit on GitHub|View source
View page source|Show source|Suggest an edit|Improve this page|Star on GitHub|Fork me on GitHub
Privacy policy|Privacy|Terms of service|Terms of use|Terms and conditions|Legal|Legal notice
Imprint|Cookie policy|Cookie settings|Accept all cookies|Accept|Reject all|Manage preferences
Do not sell my data|We use cookies to improve your experience.
This site uses cookies. By continuing you accept our policy.|All rights reserved.
Copyright © {n} All rights reserved.|© {n} The authors|© Copyright {n}, the developers.
Last updated on {n}.|Last modified: {n}|Created using Sphinx {n}.|Built with MkDocs using a theme
Powered by WordPress|Powered by Read the Docs|Version: latest|Versions|v{n}|latest|stable
Page {n} of {n}|{n} comments|Leave a comment|Leave a reply|Post a comment|Comments are closed.
Related articles|Related posts|You may also like|Recommended for you|Trending now|Popular posts
Recent posts|Archives|Categories|Tags|Tagged with|Filed under|Contact|Contact us|About|About us
Help|Help center|FAQ|Support|Careers|Jobs|Press|Blog|News|Events|Community|Documentation|Docs
Products|Solutions|Pricing|Resources|Company|Partners|Developers|Getting Started|Downloads|English
Deutsch|Français|Español|Language|Select language|Change language|Dark mode|Light|Dark|Auto|Theme
Close|Open menu|Close menu|Cancel|Submit|Send|OK|Loading...|Please wait...
Please enable JavaScript to view this page.|Your browser does not support this feature.
Advertisement|Sponsored|Ad|Sponsored links|Buy now|Add to cart|Shopping cart|Checkout
Free shipping on orders over {n}|Click here|Click here to continue|Skip ad|Watch now
Home > Docs > Reference|Home / Products / Details|You are here: Home|Breadcrumbs|Navigation
Sidebar|Footer|Header
"""
_FILLERS = ("1", "12", "2019", "2024", "3.11.4")


def common_boilerplate() -> list[str]:
    """Some 250 different lines."""
    lines: dict[str, None] = {}
    for phrase in (part for row in _PLAIN.strip().split("\n") for part in row.split("|")):
        for filler in _FILLERS if "{n}" in phrase else ("",):
            lines[phrase.replace("{n}", filler)] = None
    return list(lines)
